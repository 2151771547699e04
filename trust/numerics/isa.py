"""Every op with every instruction set that the processor has: differences, and errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from deeplab_native import _C

from .bits import CASES, difference
from .cases import Case, Size, as_dtype, batch_of, of_size, results
from .error import KINDS, broken, of_parts

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


@contextmanager
def instructions(isa: str) -> Iterator[None]:
    """Within, the kernels use this set; lattices that were kept are built anew."""
    before = _C.isa()
    _C.release_memory()
    _C.set_isa(isa)
    try:
        yield
    finally:
        _C.set_isa(before)
        _C.release_memory()


def measure_one(case: Case, size: Size, dtype: torch.dtype) -> dict[str, Any]:
    """By instruction set: how far it is from the best one, and from float64 in the best one."""
    tensors = batch_of(case, size, dtype, range(2 if case.batches else 1))
    isas = _C.available_isas()
    found = {}
    for isa in reversed(isas):
        with instructions(isa):
            found[isa] = results(case, tensors)
    best = isas[-1]
    row: dict[str, Any] = {
        isa: {"difference": difference(found[isa], found[best])} for isa in reversed(isas)
    }
    if torch.float64 in case.dtypes and dtype != torch.float64:
        reference = results(case, as_dtype(tensors, torch.float64))
        own = results(case, tensors, case.peer) if case.peer is not None else None
        for isa in isas:
            row[isa]["ours"] = of_parts(case, found[isa], reference)
            if own is not None:
                row[isa]["torch"] = of_parts(case, own, reference)
    return row


def measure(size: Size) -> Iterator[tuple[Case, torch.dtype, dict[str, Any]]]:
    for case in CASES:
        for dtype in DTYPES:
            if dtype in case.dtypes or (case.narrow and dtype == torch.bfloat16):
                yield case, dtype, measure_one(case, of_size(case, size), dtype)


def out_of_gates(case: Case, dtype: torch.dtype, row: dict[str, Any]) -> list[str]:
    """Instruction sets whose errors are above those of `error`, or that differ too much."""
    found = []
    for isa, of_isa in row.items():
        wrong = bool(broken(case, dtype, KINDS[0], of_isa)) if "ours" in of_isa else False
        if dtype == torch.float64:
            wrong = max(of_isa["difference"]) > 1e-6  # normalisations are kept as float32
        if wrong:
            found.append(isa)
    return found
