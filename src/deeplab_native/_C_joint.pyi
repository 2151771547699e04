"""Of bindings_joint.cpp."""
# ruff: noqa: N999

from ._C_types import Pair, Triple

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
