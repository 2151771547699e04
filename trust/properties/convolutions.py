"""Atrous convolution and what it is made of."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from hypothesis import strategies as st

import deeplab_native
from python_tests.ops import reference

from . import multilinear as linear
from .contract import Expected, Property
from .strategies import FLOATS, sizes, tensors

CALL_KINDS = st.sampled_from([("plain",), ("grad", "plain"), ("inference", "plain"), ("negated",)])
RATES = st.sampled_from([1, 2, 3, 5, 100])
# with nothing but float64 it would be seldom that two arguments of a call have one dtype
_ALGORITHMS = ("auto", "aten", "im2col", "space_to_batch")


def number(value: Any) -> int:
    if isinstance(value, bool) or abs(operator.index(value)) > 2**31 - 1:
        raise TypeError(f"{value!r} is no number of pixels")
    return operator.index(value)


def both(value: Any) -> tuple[int, int]:
    if isinstance(value, (list, tuple, range)):
        y, x = value
        return number(y), number(x)
    return number(value), number(value)


def spans(draw: st.DrawFn, kernel: int, size: int, stride: int) -> tuple[int, int]:
    """A rate and a padding that leave an output pixel, of few pixels."""
    rate = draw(RATES) if kernel > 1 else draw(st.sampled_from([1, 7, 2**31 - 1]))
    needed = max(0, rate * (kernel - 1) + 1 - size)
    padding = -(-needed // 2) + draw(st.integers(0, 2))
    return rate, padding


@st.composite
def convolved(draw: st.DrawFn, axes: int = 2, kernel_least: int = 1) -> dict[str, Any]:
    dtype, kinds = draw(st.sampled_from(FLOATS)), draw(CALL_KINDS)
    space = [draw(sizes()) for _ in range(axes)]
    kernel = [draw(st.integers(kernel_least, 3)) for _ in range(axes)]
    algorithm = draw(st.sampled_from(_ALGORITHMS))
    strides = [draw(st.integers(1, 3)) for _ in range(axes)]
    if algorithm == "space_to_batch":
        strides = [1] * axes
    around = [spans(draw, *of) for of in zip(kernel, space, strides, strict=True)]
    if algorithm == "space_to_batch":  # rate x rate maps
        around = [(min(rate, 100), padding) for rate, padding in around]
    rates, paddings = zip(*around, strict=True)
    channels, filters = draw(sizes(1, 4)), draw(sizes(1, 3))
    one = {"dtypes": (dtype,), "kinds": kinds}
    values: dict[str, Any] = {
        "input": draw(tensors((draw(sizes(0, 3)), channels, *space), **one)),
        "weight": draw(tensors((filters, channels, *kernel), **one)),
        "bias": draw(st.none() | tensors((filters,), **one)),
        "stride": tuple(strides),
        "padding": paddings,
        "rate": rates,
        "algorithm": algorithm,
    }
    if axes == 1:
        values |= {name: values[name][0] for name in ("stride", "padding", "rate")}
    return values


def _conv_reference(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, rate: Any, algorithm: Any
) -> list[Expected]:
    stride, padding, rate = both(stride), both(padding), both(rate)
    if min(stride) < 1 or min(padding) < 0 or min(rate) < 1 or algorithm not in _ALGORITHMS:
        raise ValueError("no such geometry")
    linear.wide(input), linear.wide(weight)
    present = [t for t in (input, weight, bias) if t is not None]
    terms = weight[0].numel()

    def convolve(x: torch.Tensor, w: torch.Tensor, b: Any = None) -> torch.Tensor:
        return reference.atrous_conv2d(x, w, b, stride, padding, rate)

    return linear.of(convolve, present, terms)


def _conv1d_reference(input: Any, weight: Any, bias: Any, **geometry: Any) -> list[Expected]:
    how = {n: number(geometry[n]) for n in ("stride", "padding", "rate")}
    if how["stride"] < 1 or how["padding"] < 0 or how["rate"] < 1:
        raise ValueError("no such geometry")
    pairs = [(1, how["stride"]), (0, how["padding"]), (1, how["rate"])]
    present = [t for t in (input, weight, bias) if t is not None]

    def convolve(x: torch.Tensor, w: torch.Tensor, b: Any = None) -> torch.Tensor:
        return reference.atrous_conv2d(x[:, :, None], w[:, :, None], b, *pairs)[:, :, 0]

    return linear.of(convolve, present, weight[0].numel())


@st.composite
def _pyramid(draw: st.DrawFn) -> dict[str, Any]:
    dtype, kinds = draw(st.sampled_from(FLOATS)), draw(CALL_KINDS)
    one: dict[str, Any] = {"dtypes": (dtype,), "kinds": kinds}
    channels, filters, branches = draw(sizes(1, 4)), draw(sizes(1, 3)), draw(sizes(1, 3))
    kernels = [
        (draw(st.sampled_from([1, 3, 5])), draw(st.sampled_from([1, 3]))) for _ in range(branches)
    ]
    biases = [draw(st.none() | tensors((filters,), **one)) for _ in kernels]
    shape = draw(sizes(0, 3)), channels, draw(sizes()), draw(sizes())
    rate = st.sampled_from([1, 2, 3, 9, 2**31 - 1])
    return {
        "input": draw(tensors(shape, **one)),
        "weights": [draw(tensors((filters, channels, *kernel), **one)) for kernel in kernels],
        "biases": draw(st.sampled_from([None, biases])),
        "rates": [draw(rate | st.tuples(rate, rate)) for _ in kernels],
    }


def _pyramid_reference(input: Any, weights: Any, biases: Any, rates: Any) -> list[Expected]:
    size = max(input.shape[2:])
    # a tap that is farther away than the map is wide has no pixel, however far it is
    pairs = [tuple(min(number(r), size) for r in both(rate)) for rate in rates]
    if not weights or len(pairs) != len(weights) or min(map(min, pairs)) < 1:
        raise ValueError("rates")
    if any(n % 2 == 0 for w in weights for n in w.shape[2:]):
        raise ValueError("even")
    own = biases or [None] * len(weights)
    present = [b for b in own if b is not None]
    count = len(weights)

    def pyramid(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        left = iter(rest[count:])
        of = [None if b is None else next(left) for b in own]
        return reference.aspp(x, rest[:count], of, pairs)

    terms = sum(w[0].numel() + 1 for w in weights) * 4  # merged taps are rounded, too
    return linear.of(pyramid, [input, *weights, *present], terms)


@st.composite
def _scores(draw: st.DrawFn) -> dict[str, Any]:
    shape = (draw(sizes(0, 2)), draw(sizes(1, 4)), draw(sizes(1, 4)), draw(sizes(1, 4)))
    shape = shape[1:] if draw(st.booleans()) else shape
    size = draw(sizes(1, 9)), draw(sizes(1, 9))
    crop = draw(st.integers(1, size[0])), draw(st.integers(1, size[1]))
    families = ("plain", "zeros", "small", "nan")
    scores = draw(tensors(shape, families=families, kinds=draw(CALL_KINDS)))
    return {"scores": scores, "size": size, "crop": draw(st.sampled_from([None, crop]))}


def _upsampled(scores: Any, size: Any, crop: Any) -> list[Expected]:
    size, crop = both(size), None if crop is None else both(crop)
    x = linear.wide(scores)
    batched = x if x.ndim == 4 else x[None]
    energies = reference.upsample_unary(batched.requires_grad_(), size, crop)
    shaped = (energies if x.ndim == 4 else energies[0]).detach()
    eps = torch.finfo(scores.dtype if scores.dtype == torch.float64 else torch.float32).eps
    largest = float(x.detach().abs().nan_to_num(0).max()) if x.numel() else 0.0
    bound = 64 * eps * (1 + largest) if largest < 1e6 else math.inf
    found = [Expected(shaped, bound)]
    if scores.requires_grad:
        (grad,) = torch.autograd.grad(energies.sum(), batched)
        own = max(eps, torch.finfo(scores.dtype).eps) * 64
        found.append(Expected(grad.view(x.shape), own * (1 + largest) * (1 + energies.numel())))
    return found


OPS = [
    Property(
        "atrous_conv2d",
        ("atrous_conv2d",),
        linear.differentiated(deeplab_native.atrous_conv2d),
        convolved(),
        _conv_reference,
        errors=((RuntimeError, "^algorithm: 'direct'"),),
        aliases=(("weight", "input"),),
    ),
    Property(
        "atrous_conv1d",
        ("atrous_conv1d",),
        linear.differentiated(deeplab_native.atrous_conv1d),
        convolved(1),
        _conv1d_reference,
        errors=((RuntimeError, "^algorithm: 'direct'"),),
        aliases=(("weight", "input"),),
    ),
    Property(
        "aspp",
        ("aspp",),
        linear.differentiated(deeplab_native.aspp),
        _pyramid(),
        _pyramid_reference,
    ),
    Property(
        "upsample_unary",
        ("upsample_unary",),
        linear.differentiated(deeplab_native.upsample_unary),
        _scores(),
        _upsampled,
    ),
]
