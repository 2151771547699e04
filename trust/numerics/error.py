"""The error of every op against itself in float64, beside that of torch's own operators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from . import ops
from .cases import Case, Size, Tensors, as_dtype, batch_of, of_size, results

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ENERGIES = ("dense_crf", "mean_field", "MeanField", "random_walk", "layers.DenseCRF")
SUMS = ("permutohedral", "gauss", "dense_crf_loss", "layers.Constrain")
CRF_GATE = 5e-5  # of a marginal, against the same lattice in float64

# float16 ends at 65504, and its denormal numbers begin at 6e-5
_HUGE = {torch.float16: 1e3}
_TINY = {torch.float16: 1e-3}
_OFFSET = {torch.float16: 100.0, torch.bfloat16: 100.0}


class Kind(NamedTuple):
    """An input that is hard: what becomes of the numbers drawn."""

    name: str
    change: Callable[[torch.Tensor, torch.dtype], torch.Tensor]


KINDS = (
    Kind("random", lambda x, dtype: x),
    Kind("offset", lambda x, dtype: x + _OFFSET.get(dtype, 1000.0)),
    Kind("large", lambda x, dtype: x * _HUGE.get(dtype, 1e30)),
    Kind("small", lambda x, dtype: x * _TINY.get(dtype, 1e-30)),
)


class Error(NamedTuple):
    """Against float64: largest and mean as shares of the reference's largest, and the largest."""

    largest: float
    mean: float
    absolute: float

    def __or__(self, other: Error) -> Error:
        return Error(*map(max, self, other))


NONE = Error(0.0, 0.0, 0.0)


def error(found: torch.Tensor, reference: torch.Tensor, least: float = 0.0) -> Error:
    """least: of what errors are shares of; a gradient of sure marginals is 0 but for rounding."""
    wrong = (found.double() - reference).abs()
    largest = max(reference.abs().max().item(), least) or 1.0
    most = wrong.max().item()
    return Error(most / largest, wrong.mean().item() / largest, most)


def of_parts(case: Case, found: Tensors, reference: Tensors) -> dict[str, Error]:
    """Of the result, and the largest of all gradients."""
    of_out, least = 0.0, 1.0 if case.name.startswith(ENERGIES) else 0.0
    if case.name.startswith("layers.Constrain"):
        # a divergence, of distributions that may be the same; a mean over the pixels
        of_out, least = 0.01, 1 / found["input"][0, 0].numel()
    parts = {"out": error(found["out"], reference["out"], of_out)}
    for k in reference.keys() - {"out"}:
        parts["gradients"] = parts.get("gradients", NONE) | error(found[k], reference[k], least)
    return parts


def hard_input(case: Case, size: Size, dtype: torch.dtype, kind: Kind) -> Tensors:
    """In the dtype. With an offset, weights that add up to 0, so that it cancels."""
    tensors = batch_of(case, size, torch.float64, range(2 if case.batches else 1))
    tensors["input"] = kind.change(tensors["input"], dtype)
    if kind.name == "offset":
        for k in tensors:
            if k.startswith("weight"):
                inner = tuple(range(1, tensors[k].ndim))
                tensors[k] = tensors[k] - tensors[k].mean(inner, keepdim=True)
    return as_dtype(tensors, dtype)


def measure_one(case: Case, size: Size, dtype: torch.dtype, kind: Kind) -> dict[str, Any]:
    """Errors of the op, and of torch's own, by "out" and "gradients"."""
    tensors = hard_input(case, size, dtype, kind)
    reference = results(case, as_dtype(tensors, torch.float64))
    row: dict[str, Any] = {"ours": of_parts(case, results(case, tensors), reference)}
    if case.peer is not None:
        row["torch"] = of_parts(case, results(case, tensors, case.peer), reference)
    return row


def cases_with_error() -> list[Case]:
    # one with a layer of float32 has no other to be compared with
    return [case for case in ops.CASES if torch.float64 in case.dtypes]


def kinds_of(case: Case) -> tuple[Kind, ...]:
    """Probabilities are what they are."""
    return KINDS[:1] if case.name.startswith("dense_crf_loss") else KINDS


def measure(size: Size) -> Iterator[tuple[Case, torch.dtype, Kind, dict[str, Any]]]:
    for case in cases_with_error():
        for dtype in DTYPES if case.narrow else DTYPES[:1]:
            for kind in kinds_of(case):
                yield case, dtype, kind, measure_one(case, of_size(case, size), dtype, kind)


def gate(case: Case, dtype: torch.dtype, kind: Kind, part: str, row: dict[str, Any]) -> float:
    """The largest share that an error may have.

    Of a CRF's marginals it is that of the specification, of other sums over pixels and points 1e-5,
    as they are float32 whatever the input; else eight times torch's own error. Gradients are
    rounded to the dtype of what they are of.
    """
    eps = torch.finfo(dtype).eps
    # what adds up energies before it subtracts the least one rounds them with their offset
    added = case.name.endswith(("scale=0.5", 'algorithm="exact"')) and kind.name == "offset"
    offset = 4 * torch.finfo(torch.float32).eps * _OFFSET.get(dtype, 1000.0) if added else 0.0
    if case.name.startswith(ENERGIES):
        return (CRF_GATE if part == "out" else 2e-3 + 8 * eps) + offset
    if case.name.startswith(SUMS):
        return 1e-5 if part == "out" else 1e-5 + 8 * eps
    own: float = row["torch"][part].largest if "torch" in row else 0.0
    return 8 * own + 16 * eps


def broken(case: Case, dtype: torch.dtype, kind: Kind, row: dict[str, Any]) -> list[str]:
    return [
        part
        for part, found in row["ours"].items()
        if not found.largest <= gate(case, dtype, kind, part, row)
    ]
