"""Integers that ops are told: sizes, rates, paddings, numbers of steps."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch

LARGEST_INT = 2**31 - 1
"""Sums and products of a few of them stay within 64 bits."""


def pair(name: str, value: int | Sequence[int], *, least: int) -> tuple[int, int]:
    """(vertical, horizontal) from one integer or two; raises below `least`, above LARGEST_INT."""
    both = value if isinstance(value, Sequence) else (value, value)
    integers = [_as_integer(v) for v in both]
    if len(integers) != 2 or (first := integers[0]) is None or (second := integers[1]) is None:
        raise TypeError(f"{name}: expected an integer or two of them, got {value!r}")
    if min(first, second) < least:
        raise ValueError(f"{name}: expected at least {least}, got {value!r}")
    if is_too_large(first) or is_too_large(second):
        raise ValueError(f"{name}: expected at most {LARGEST_INT}, got {value!r}")
    return first, second


def integer(name: str, value: int, *, least: int) -> int:
    """`value` as an int, of NumPy's integers too; raises where it is none, or out of bounds."""
    result = _as_integer(value)
    if result is None:
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    if result < least:
        raise ValueError(f"{name}: expected at least {least}, got {value!r}")
    if is_too_large(result):
        raise ValueError(f"{name}: expected at most {LARGEST_INT}, got {value!r}")
    return result


def is_too_large(value: int) -> bool:
    """Whether an integer is above LARGEST_INT; of symbols and traced code nothing is asked."""
    if torch.compiler.is_compiling() or not isinstance(value, int):
        return False
    return value > LARGEST_INT


def _as_integer(value: Any) -> int | None:
    """None for what is no integer; a bool, a float and a tensor are none."""
    if isinstance(value, (bool, torch.Tensor)):
        return None
    if isinstance(value, (int, torch.SymInt)):
        # an export with dynamic shapes has sizes that are symbols
        return value  # type: ignore[return-value]
    try:
        return operator.index(value)
    except TypeError:
        return None
