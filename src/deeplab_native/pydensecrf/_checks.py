"""What may be given to the drop-in, checked by name before anything is touched.

Errors have pydensecrf's types: TypeError for what is no array, ValueError for an array of another
shape or dtype.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _C

Floats = NDArray[np.float32]

LARGEST_INT = 2**31 - 1  # pydensecrf's sizes are C ints
_LEAST_SIGMA = 1e-30  # features are divided in float32
_LARGEST_WEIGHT = 1e18  # products of two have to stay within float32


def integer(name: str, value: object, *, least: int, most: int = LARGEST_INT) -> int:
    """`value` as an int, also of 3.0; TypeError, ValueError below least, OverflowError above."""
    whole = isinstance(value, (float, np.floating)) and float(value).is_integer()
    try:
        number = int(value) if whole else operator.index(value)  # type: ignore[call-overload, arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    if number > most:
        raise OverflowError(f"{name}: expected at most {most}, got {number}")
    return number


def choice(name: str, value: object, kind: type[Any]) -> int:
    """The number of a member of an IntEnum, given as one or as its number."""
    numbers = [int(member) for member in kind]
    try:
        number = integer(name, value, least=min(numbers), most=max(numbers))
    except (ValueError, OverflowError):
        names = ", ".join(f"{member.name} ({member.value})" for member in kind)
        raise ValueError(f"{name}: expected one of {names}; got {value!r}") from None
    return number


def sigmas(name: str, value: object, count: int, what: str, hint: str = "") -> list[float]:
    """One positive number for each of `count` axes or channels; a single one is for all.

    `hint` is what to say where there are not as many.
    """
    if isinstance(value, Number):
        each: list[Any] = [value] * count
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        each = list(value)
    else:
        raise TypeError(f"{name}: expected a number or {count} of them, got {value!r}")
    if len(each) != count:
        raise ValueError(f"{name}: expected {count} numbers ({what}), got {len(each)}{hint}")
    try:
        numbers = [float(one) for one in each if not isinstance(one, str)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count:
        raise TypeError(f"{name}: expected numbers, got {value!r}")
    if not all(one >= _LEAST_SIGMA for one in numbers):
        raise ValueError(f"{name}: expected positive numbers ({what}), got {value!r}")
    return numbers


def array_like(name: str, value: Any) -> NDArray[Any]:
    """What NumPy makes an array of, lists too; ValueError for lists of several lengths."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def array(name: str, value: object) -> NDArray[Any]:
    """What exports a buffer, as an array; a list or a tensor is a TypeError, as in pydensecrf."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        return np.asarray(memoryview(value))  # type: ignore[arg-type]
    except TypeError:
        kind = type(value).__name__
        remedy = ""
        if kind == "Tensor":  # also on a GPU, and with a gradient
            remedy = f" ({name}.detach().cpu().numpy(); deeplab_native.dense_crf takes tensors)"
        elif isinstance(value, (list, tuple)):
            remedy = f" (numpy.asarray({name}))"
        raise TypeError(f"{name}: expected a numpy.ndarray, got {kind}{remedy}") from None


def float_array(name: str, value: object, ndim: int, layout: str) -> Floats:
    """float32 of any strides; wider and narrower floats are converted."""
    floats = array(name, value)
    if floats.ndim != ndim:
        raise ValueError(
            f"{name}: expected {ndim} dimensions {layout}, got shape {floats.shape}; reshape it"
        )
    if floats.dtype.kind != "f":
        raise ValueError(f"{name}: expected dtype float32, got {floats.dtype}")
    with np.errstate(over="ignore"):  # becomes infinite, which the caller looks for
        return floats.astype(np.float32, copy=False)


def strict_float_array(name: str, value: object, ndim: int, layout: str) -> Floats:
    """The same for float32 alone: pydensecrf's own tests expect float64 to be a ValueError."""
    dtype = array(name, value).dtype
    if dtype.newbyteorder("=") != np.float32:
        raise ValueError(
            f"{name}: expected dtype float32, got {dtype}; pass {name}.astype(numpy.float32)"
        )
    return float_array(name, value, ndim, layout)


def compatibility(value: object, nlabels: int) -> tuple[int, list[float]]:
    """A CompatibilityKind of mean_field.h, which is its number of dimensions, and its values."""
    if isinstance(value, Number):
        if isinstance(value, (complex, np.complexfloating)):
            raise TypeError(f"compat: expected a real number, got {value!r}")
        kind, values = 0, [float(value)]  # type: ignore[arg-type]
    else:
        kind = array("compat", value).ndim
        if kind not in (1, 2):
            raise ValueError(
                f"compat: expected a number, a vector ({nlabels},) or a matrix "
                f"({nlabels}, {nlabels}), got an array of {kind} dimensions"
            )
        floats = strict_float_array("compat", value, kind, "")
        if floats.shape != (nlabels,) * kind:
            raise ValueError(
                f"compat: bad shape, need {(nlabels,) * kind} for {nlabels} labels, "
                f"got {floats.shape}"
            )
        values = floats.ravel().tolist()
    if not all(map(math.isfinite, values)):
        raise ValueError("compat: expected finite numbers, got NaN or infinite ones")
    if any(abs(one) > _LARGEST_WEIGHT for one in values):
        raise ValueError(f"compat: expected at most {_LARGEST_WEIGHT:g}, got {value!r}")
    return kind, values


def energies(name: str, u: Floats, threads: int) -> Floats:
    """C-contiguous and finite. +inf, a label that a point cannot have, becomes the largest number.

    ValueError for NaN, for -inf, and for a point without any possible label: each would make all
    of Q NaN.
    """
    u = aligned(u)
    if _C.all_finite_cpu_float(address(u), u.size, threads):
        return u
    if np.isnan(u).any():
        label, point = np.argwhere(np.isnan(u))[0]
        raise ValueError(f"{name}: expected energies, got NaN (label {label}, point {point})")
    if np.isneginf(u).any():
        label, point = np.argwhere(np.isneginf(u))[0]
        raise ValueError(
            f"{name}: expected energies above -inf, got -inf (label {label}, point {point})"
        )
    impossible = np.isposinf(u).all(0)
    if impossible.any():
        raise ValueError(
            f"{name}: expected a finite energy for at least one label of each point, got +inf for "
            f"all labels of point {impossible.argmax()} (clip probabilities before the logarithm)"
        )
    finite: Floats = np.minimum(u, np.finfo(np.float32).max)
    return finite


def aligned(values: Floats) -> Floats:
    """C-contiguous, each value at a multiple of its size; copied where it is not."""
    return np.require(values, requirements=("C", "A"))


def address(values: NDArray[Any]) -> int:
    """Of the first value."""
    start: int = values.__array_interface__["data"][0]
    return start


def element_strides(values: NDArray[Any]) -> tuple[int, ...] | None:
    """In values instead of bytes; None where an address is no multiple of the item's size."""
    size = values.itemsize
    if not values.flags.aligned or any(stride % size for stride in values.strides):
        return None
    return tuple(stride // size for stride in values.strides)
