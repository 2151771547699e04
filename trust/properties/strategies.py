"""What ops are given: usual arguments in all their forms, and what nobody should give them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st

from .contract import Property
from .specs import ARRAY_LAYOUTS, FAMILIES, LAYOUTS, Array, Same, Tensor

FLOATS = ("float32", "float64", "bfloat16", "float16")
WIDE = ("float32", "float64")
INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
DTYPES = (*FLOATS, *INTEGERS, "bool", "complex64", "complex128", "uint16", "uint64")
KINDS = ("plain", "plain", "plain", "grad", "inference", "negated")

SEEDS = st.integers(0, 999)


class Odd(NamedTuple):
    """A thing that is no number, by its name."""

    name: str


ODD_NUMBERS: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 3, 0.5, 1.5, -0.0, math.nan, math.inf, -math.inf),
    *(-(2**31), -(2**63), -(10**30), 2**63, 2**64, 10**30, 1e-40, 1e300, 2 + 1j),
    *("3", "auto", "", b"x", (), (1,), (2, 2), (2, 3), (1, 2, 3), [2], [2, 2], ("a", "b"), {}, {1}),
    *((None, 1), (True, True), (1.5, 2), (-1, 2), (2**63, 1), [[1, 2], [3, 4]]),
    *(np.int64(2), np.uint8(3), np.float32(2), np.float64(0.5), np.bool_(True), np.str_("x")),
    *(range(2), ...),
]
LARGE_NUMBERS = [2**31 - 1, 2**31, 2**32 + 1, 2**40, 2**62, 2**63 - 1]

NUMBERS = st.sampled_from(ODD_NUMBERS)
ANY_NUMBERS = st.sampled_from([*ODD_NUMBERS, *LARGE_NUMBERS])
COUNTS = NUMBERS  # of iterations: a large number of them is no mistake, and takes as long


def seeds(draw: st.DrawFn) -> int:
    return draw(SEEDS)


def sizes(least: int = 1, most: int = 7) -> st.SearchStrategy[int]:
    """Of a dimension; 1 often."""
    return st.one_of(st.just(max(1, least)), st.integers(least, most))


@st.composite
def tensors(
    draw: st.DrawFn,
    shape: Sequence[int],
    dtypes: Sequence[str] = FLOATS,
    families: Sequence[str] = FAMILIES,
    layouts: Sequence[str] = LAYOUTS,
    kinds: Sequence[str] = KINDS,
    low: float | None = None,
    high: float | None = None,
) -> Tensor:
    """Of one shape in all forms; half of them are usual in every respect."""
    if draw(st.booleans()):
        families, layouts, kinds = families[:1], layouts[:1], kinds[:1]
    return Tensor(
        tuple(shape),
        draw(st.sampled_from(dtypes)),
        draw(st.sampled_from(layouts)),
        draw(st.sampled_from(families)),
        draw(SEEDS),
        draw(st.sampled_from(kinds)),
        low,
        high,
    )


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Sequence[int],
    dtypes: Sequence[str] = ("float32",),
    families: Sequence[str] = FAMILIES,
    low: float | None = None,
    high: float | None = None,
) -> Array:
    return Array(
        tuple(shape),
        draw(st.sampled_from(dtypes)),
        draw(st.sampled_from(ARRAY_LAYOUTS)),
        draw(st.sampled_from(families)),
        draw(SEEDS),
        low,
        high,
        draw(st.sampled_from("=>")),
        draw(st.booleans()),
    )


def _another_shape(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    how = draw(st.sampled_from(["more", "fewer", "none", "empty", "larger", "one", "swapped"]))
    if how == "more":
        return (1, *shape)
    if how == "fewer":
        return shape[1:]
    if how == "none" or not shape:
        return ()
    d = draw(st.integers(0, len(shape) - 1))
    if how == "swapped":
        return tuple(reversed(shape))
    size = {"empty": 0, "larger": shape[d] + 1, "one": 1}[how]
    return (*shape[:d], size, *shape[d + 1 :])


@st.composite
def wrong_tensors(draw: st.DrawFn, right: Tensor) -> Any:
    """What is wrong in one respect, or no tensor at all."""
    how = draw(
        st.sampled_from(
            ["shape", "shape", "dtype", "meta", "family", "array", "list", "sparse", "number"]
        )
    )
    if how == "shape":
        return replace(right, shape=_another_shape(draw, right.shape), layout="contiguous")
    if how == "dtype":
        return replace(right, dtype=draw(st.sampled_from(DTYPES)), kind="plain")
    if how == "meta":
        return replace(right, device="meta", kind="plain")
    if how == "family":
        return replace(right, family=draw(st.sampled_from(FAMILIES)), kind="plain")
    if how == "sparse" and right.shape:
        return replace(right, dtype="float32", kind="plain", device="cpu").make().to_sparse()
    plain = replace(right, kind="plain", dtype="float32", device="cpu")
    if how == "array":
        return plain.make().numpy()
    return plain.make().tolist() if how == "list" else draw(NUMBERS)


@st.composite
def wrong_arrays(draw: st.DrawFn, right: Array) -> Any:
    how = draw(st.sampled_from(["shape", "shape", "dtype", "family", "tensor", "list", "number"]))
    if how == "shape":
        return replace(right, shape=_another_shape(draw, right.shape), layout="C")
    if how == "dtype":
        names = [*INTEGERS, "float16", "float32", "float64", "longdouble", "complex64", "bool"]
        return replace(right, dtype=draw(st.sampled_from([*names, "object", "str", "uint64"])))
    if how == "family":
        return replace(right, family=draw(st.sampled_from(FAMILIES)))
    if how == "tensor":
        values = replace(right, byteorder="=", layout="C").make()
        return (
            torch.from_numpy(np.array(values))
            if values.dtype.kind in "fiu" and values.dtype.itemsize <= 8
            else None
        )
    return right.make().tolist() if how == "list" else draw(NUMBERS)


def _wrong(draw: st.DrawFn, prop: Property, name: str, value: Any) -> Any:
    if name in prop.hostile:
        return draw(prop.hostile[name])
    if isinstance(value, Tensor):
        return draw(wrong_tensors(value))
    if isinstance(value, Array):
        return draw(wrong_arrays(value))
    if isinstance(value, list) and value and draw(st.booleans()):
        i = draw(st.integers(0, len(value) - 1))
        changed = _wrong(draw, prop, "", value[i])
        return [*value[:i], *([] if draw(st.booleans()) else [changed]), *value[i + 1 :]]
    return draw(ANY_NUMBERS)


class Case(NamedTuple):
    """Arguments of a property, whether they have to be taken, and how many threads there are."""

    specs: dict[str, Any]
    usual: bool
    threads: int


@st.composite
def cases(draw: st.DrawFn, prop: Property) -> Case:
    """Usual arguments, or some of which one or two are wrong."""
    specs = dict(draw(prop.valid))
    threads = draw(st.sampled_from([1, 2, 3]))
    open_ = [name for name in specs if prop.hostile.get(name, name) is not None]
    usual = not open_ or draw(st.booleans())
    if usual:
        for name, other in prop.aliases:
            one, two = specs.get(name), specs.get(other)
            if isinstance(one, Tensor) and isinstance(two, Tensor) and draw(st.booleans()):
                fits = math.prod(one.shape) <= math.prod(two.shape)
                if fits and (one.dtype, one.family) == (two.dtype, two.family):
                    specs[name] = Same(other, one.shape)
        return Case(specs, True, threads)
    for _ in range(draw(st.sampled_from([1, 1, 2]))):
        name = draw(st.sampled_from(open_))
        if not isinstance(specs[name], Same):
            specs[name] = _wrong(draw, prop, name, specs[name])
    return Case(specs, False, threads)
