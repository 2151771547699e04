"""Of bindings_joint.cpp."""
# ruff: noqa: N999

from collections.abc import Sequence

from ._C_types import Pair, Triple

class JointMessage:
    def __init__(
        self,
        image: int,
        dtype: str,
        strides: Triple,
        size: Pair,
        sigmas: tuple[float, float],
        sigma_colour: Sequence[float],
        cells: int,
        q: int,
        num_cells: int,
        num_labels: int,
        pixels_in_each: float,
        normalization: int,
        num_threads: int,
        /,
    ) -> None: ...
    @property
    def num_vertices(self) -> int: ...
    def label(
        self,
        scores: int,
        first: int,
        count: int,
        all_labels: int,
        labels: Sequence[int],
        weight: float,
        out: int,
        num_threads: int,
        /,
    ) -> None: ...
    def add(
        self,
        scores: int,
        first: int,
        count: int,
        labels: Sequence[int],
        weight: float,
        num_threads: int,
        /,
    ) -> None: ...

def largest_labels_cpu(
    scores: int, labels: int, plane: int, out: int, num_threads: int, /
) -> None: ...
def enlarge_rows_cpu(
    planes: int,
    num_planes: int,
    size: Pair,
    down: Triple,
    across: Triple,
    first: int,
    count: int,
    out_width: int,
    add: bool,
    factor: float,
    out: int,
    num_threads: int,
    /,
) -> None: ...
