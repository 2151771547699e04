"""Same input, same bits: in every run, place of a batch, number of threads, layout, process."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from .._forked import Forked
from . import ops, pictures
from .cases import LARGE, SMALL, Case, Size, Tensors, batch_of, of_image, of_size, results

SIZES = {"small": SMALL, "large": LARGE}
CASES = [*ops.CASES, *pictures.CASES]
BATCH = 2
_SECONDS = 600  # that a forked child may take
THREADS = (1, 2, 3, 4, 8)
CONDITIONS = ("run", "process", "fork", "batch", "threads", "layout", "alignment", "compiled")


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Also of NaN, and of 0 and -0; the strides do not count."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    one, other = (t.detach().contiguous().flatten().view(torch.uint8) for t in (a, b))
    return torch.equal(one, other)


class Difference(NamedTuple):
    """The largest, as a share of the largest value of its tensor; 0: the same bits."""

    out: float = 0.0
    gradients: float = 0.0

    def __or__(self, other: Difference) -> Difference:
        return Difference(*map(max, self, other))


DIFFERENT = Difference(math.inf, math.inf)


def difference(found: Tensors, expected: Tensors) -> Difference:
    most = Difference()
    for k, e in expected.items():
        if not same_bits(found[k], e):
            a, b = found[k].double(), e.double()
            largest = b.abs().max().item()
            # bits that differ where values do not (0 and -0) are a difference, too
            share = max((a - b).abs().max().item() / (largest or 1.0), sys.float_info.min)
            most |= Difference(share, 0.0) if k == "out" else Difference(0.0, share)
    return most


def shifted(tensor: torch.Tensor, elements: int) -> torch.Tensor:
    """The same values, so many elements behind an address of 64 bytes."""
    room = torch.empty(tensor.numel() + elements + 64, dtype=tensor.dtype)
    ahead = -room.data_ptr() % 64 // tensor.element_size() + elements
    view = room[ahead : ahead + tensor.numel()].view(tensor.shape)
    view.copy_(tensor)
    return view


def spread(tensor: torch.Tensor) -> torch.Tensor:
    """The same values with gaps between them, in all dimensions."""
    if not tensor.ndim:
        return tensor
    room = torch.zeros([2 * n for n in tensor.shape], dtype=tensor.dtype)
    view = room[tuple(slice(None, None, 2) for _ in tensor.shape)]
    view.copy_(tensor)
    return view


def channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "strided": spread,
    "channels_last": channels_last,
}


def digest(found: Tensors) -> str:
    tensors = (found[k].contiguous().flatten().view(torch.uint8) for k in sorted(found))
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()


Row = dict[str, Difference | None]  # by condition; None where there is no such thing


class Bits:
    """The results of one case and dtype under every condition, against those with one thread."""

    def __init__(self, case: Case, dtype: torch.dtype, size: Size, batch: int = BATCH) -> None:
        self.case, self.size, self.dtype = case, of_size(case, size), dtype
        self.batch = batch if case.batches else 1
        self.tensors = self._of(range(self.batch))
        torch.set_num_threads(1)
        self.expected = results(case, self.tensors)

    def _of(self, images: Any) -> Tensors:
        return batch_of(self.case, self.size, self.dtype, list(images))

    def run(self) -> Difference:
        return difference(results(self.case, self.tensors), self.expected)

    def fork(self) -> Difference | None:
        """In a child of this process, of one thread: torch's own stand still in a child."""
        child = Forked(lambda: digest(results(self.case, self.tensors)).encode())
        found = child.result(_SECONDS).decode()
        return Difference() if found == digest(self.expected) else DIFFERENT

    def in_batches(self, sizes: Sequence[int] = (2, 3)) -> Difference | None:
        """Image 0 at every place of batches of several sizes, against a batch of it alone."""
        if not self.case.batches:
            return None
        alone = of_image(self.case, results(self.case, self._of([0])), 0, self.size)
        most = Difference()
        for n in sizes:
            for place in {n // 2, n - 1}:
                images = [*range(1, place + 1), 0, *range(place + 1, n)]
                found = of_image(self.case, results(self.case, self._of(images)), place, self.size)
                most |= difference(found, alone)
        return most

    def threads(self) -> Difference:
        most, tensors = Difference(), self._of([0])
        expected = results(self.case, tensors)
        for n in THREADS:
            torch.set_num_threads(n)
            found = results(self.case, tensors)
            most |= difference(found, expected)
            # two runs with the same number are the same, whatever the number
            if n == 2 and difference(results(self.case, tensors), found) != Difference():
                most = DIFFERENT
        torch.set_num_threads(1)
        return most

    def layout(self) -> Difference:
        return self._with(LAYOUTS.values())

    def alignment(self) -> Difference:
        return self._with(lambda t, n=n: shifted(t, n) for n in (1, 3, 8))

    def _with(self, changes: Any) -> Difference:
        most = Difference()
        for change in changes:
            tensors = {k: change(t) for k, t in self.tensors.items()}
            most |= difference(results(self.case, tensors), self.expected)
        return most

    def compiled(self, backend: str = "inductor") -> Difference | None:
        """Of small maps and float32: to compile takes long, and as long again for other shapes."""
        if not self.case.compiles or self.dtype != torch.float32:
            return None
        small = Bits(self.case, self.dtype, SMALL, batch=3)
        torch.compiler.reset()
        call = torch.compile(self.case.call, fullgraph=True, backend=backend, dynamic=False)
        return difference(results(self.case, small.tensors, call), small.expected)


def dtypes_of(case: Case) -> Sequence[torch.dtype]:
    """float64 takes the same way where a pixel costs much, and as long again."""
    return case.dtypes[:1] if case.dear else case.dtypes


def digests(size: Size, batch: int = BATCH) -> dict[str, str]:
    """Of the results of all cases with one thread: what another process is compared by."""
    return {
        f"{case} {dtype}": digest(Bits(case, dtype, size, batch).expected)
        for case in CASES
        for dtype in dtypes_of(case)
    }


def digests_of_another_process(size: str) -> dict[str, str]:
    command = [sys.executable, "-m", "trust.numerics", "digests", "--size", size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def measure(
    cases: list[Case], size: str, conditions: tuple[str, ...] = CONDITIONS
) -> Iterator[tuple[Case, torch.dtype, Row]]:
    """What every condition changes: 0 nothing, None where there is no such thing."""
    other = digests_of_another_process(size) if "process" in conditions else {}
    for case in cases:
        for dtype in dtypes_of(case):
            bits = Bits(case, dtype, SIZES[size])
            row: Row = {}
            for condition in conditions:
                if condition == "process":
                    same = other[f"{case} {dtype}"] == digest(bits.expected)
                    row[condition] = Difference() if same else DIFFERENT
                else:
                    how = "in_batches" if condition == "batch" else condition
                    row[condition] = getattr(bits, how)()
            yield case, dtype, row


def broken(case: Case, dtype: torch.dtype, row: Row) -> list[str]:
    """Conditions that changed something and may not, or more than rounding explains."""
    most = 1e-3 if case.nets else 1e-4 if dtype == torch.float32 else 1e-6
    return [
        condition
        for condition, found in row.items()
        if found is not None and any(found) and (condition not in case.differs or max(found) > most)
    ]
