"""Layers: the functions of the other modules, with parameters; pools and frozen normalisation."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st

from deeplab_native import layers

from . import multilinear as linear
from .contract import Expected, Property
from .convolutions import CALL_KINDS, both, convolved
from .convolutions import OPS as CONVOLUTIONS
from .strategies import NUMBERS, WIDE, sizes, tensors

_OF = {prop.name: prop for prop in CONVOLUTIONS}


def _parameter(value: Any) -> Any:
    return torch.nn.Parameter(value.detach().clone(), requires_grad=False)


def _conv(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, rate: Any, algorithm: Any
) -> Any:
    filters, channels, *kernel = weight.shape
    layer = layers.AtrousConv2d(
        channels, filters, kernel, stride, padding, rate, bias is not None, dtype=weight.dtype
    )
    layers.set_algorithm(layer, "aten")
    layer.weight = _parameter(weight)
    layer.bias = None if bias is None else _parameter(bias)
    with layers.using_algorithm(layer, algorithm):
        return layer(input)


def _conv_reference(weight: Any, bias: Any, **rest: Any) -> list[Expected]:
    own = None if bias is None else bias.detach()
    found = _OF["atrous_conv2d"].reference(weight=weight.detach(), bias=own, **rest)
    assert found is not None
    return found


@st.composite
def _layer(draw: st.DrawFn) -> dict[str, Any]:
    given = draw(convolved())
    for name in ("weight", "bias"):
        value = given[name]
        if value is not None and value.kind == "grad":
            given[name] = value.__class__(**{**value.__dict__, "kind": "plain"})
    return given


def _pyramid(input: Any, channels: int, dtype: str, rates: Any, filters: Any, seed: Any) -> Any:
    head = layers.ASPP(channels, filters, rates, dtype=getattr(torch, dtype))
    head.reset_parameters(torch.Generator().manual_seed(seed))
    return head.requires_grad_(False)(input)


def _pyramid_reference(
    input: Any, channels: int, dtype: str, rates: Any, filters: Any, seed: Any
) -> list[Expected]:
    head = layers.ASPP(channels, filters, rates, dtype=getattr(torch, dtype))
    head.reset_parameters(torch.Generator().manual_seed(seed))
    branches = [branch.requires_grad_(False) for branch in head.branches()]
    found = _OF["aspp"].reference(
        input=input,
        weights=[b.weight for b in branches],
        biases=[b.bias for b in branches],
        rates=list(rates),
    )
    assert found is not None
    return found


@st.composite
def _head(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(sizes(0, 2)), draw(sizes(1, 3)), draw(sizes()), draw(sizes())
    how: dict[str, Any] = {"families": ("plain", "zeros", "small", "nan")}
    input = draw(tensors(shape, WIDE, kinds=draw(CALL_KINDS), **how))
    return {
        "input": input,
        "channels": shape[1],
        "dtype": input.dtype,
        "rates": tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))),
        "filters": draw(st.integers(1, 3)),
        "seed": draw(st.integers(0, 9)),
    }


@st.composite
def _pooled(draw: st.DrawFn) -> dict[str, Any]:
    kernel, rate = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    least = rate * (kernel - 1) + 1
    shape = draw(sizes(1, 2)), draw(sizes(1, 3)), draw(sizes(least, 9)), draw(sizes(least, 9))
    kinds = draw(st.sampled_from([("plain",), ("inference",), ("negated",)]))
    how: dict[str, Any] = {"families": ("plain", "zeros", "small"), "kinds": kinds}
    return {
        "input": draw(tensors(shape, WIDE, **how)),
        "kernel_size": kernel,
        "stride": 1,
        "padding": draw(st.integers(0, kernel // 2)),
        "rate": rate,
    }


def _pool_reference(torch_pool: Any, beyond: float) -> Any:
    """Of each of the rate x rate maps the pool, which is what every rate-th pixel has to hold."""

    def reference(
        input: Any, kernel_size: Any, stride: Any, padding: Any, rate: Any
    ) -> list[Expected]:
        shape = _pool_of(input, kernel_size, stride, padding, rate)
        if stride is None or both(stride) != (1, 1):
            return [Expected(torch.zeros(shape), math.inf)]
        x, (ry, rx) = linear.wide(input), both(rate)
        kernel, (py, px) = both(kernel_size), both(padding)
        out = torch.full(shape, math.nan, dtype=torch.float64)
        for p in range(min(ry, shape[-2])):
            for q in range(min(rx, shape[-1])):
                if p < x.shape[-2] and q < x.shape[-1]:
                    small = torch.nn.functional.pad(
                        x[..., p::ry, q::rx], (px, px, py, py), value=beyond
                    )
                    if all(n >= k for n, k in zip(small.shape[-2:], kernel, strict=True)):
                        part = torch_pool(small, kernel, 1)
                        height, width = out[..., p::ry, q::rx].shape[-2:]
                        out[..., p::ry, q::rx] = part[..., :height, :width]
        largest = x.abs().max() if x.numel() else 0
        rounding = max(1e-6, torch.finfo(input.dtype).eps)
        return [Expected(out, rounding * float(largest) + 1e-30)]

    return reference


def _pool_of(input: Any, kernel: Any, stride: Any, padding: Any, rate: Any) -> tuple[int, ...]:
    if not input.is_floating_point() or input.layout != torch.strided:
        raise TypeError("input")
    strides = both(kernel) if stride is None else both(stride)
    around = zip(both(kernel), strides, both(padding), both(rate), input.shape[-2:], strict=True)
    if input.ndim not in (3, 4) or min(*both(kernel), *strides, *both(rate)) < 1:
        raise ValueError("input")
    size = [(n + 2 * p * r - r * (k - 1) - 1) // s + 1 for k, s, p, r, n in around]
    if min(size) < 1:
        raise ValueError("no pixel")
    return (*input.shape[:-2], *size)


def _pool_layer(kind: Any) -> Any:
    def call(input: Any, kernel_size: Any, stride: Any, padding: Any, rate: Any) -> Any:
        return kind(kernel_size, stride, padding, rate=rate)(input)

    return call


def _frozen(input: Any, eps: Any, seed: Any) -> Any:
    layer = layers.FrozenBatchNorm2d(input.shape[1], eps, dtype=input.dtype)
    generator = torch.Generator().manual_seed(seed)
    for values in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
        values.data.uniform_(0.5, 2, generator=generator)
    return layer(input)


def _frozen_reference(input: Any, eps: Any, seed: Any) -> list[Expected]:
    generator = torch.Generator().manual_seed(seed)
    of = [
        torch.empty(input.shape[1], dtype=input.dtype)
        .uniform_(0.5, 2, generator=generator)
        .double()
        for _ in range(4)
    ]
    w, b, mean, var = (values[:, None, None] for values in of)
    x = linear.wide(input)
    y = w * (x - mean) / (var + eps).sqrt() + b
    bound = 8 * torch.finfo(input.dtype).eps * (w * (x.abs() + mean) / (var + eps).sqrt() + b)
    bound[bound > 1e30] = math.inf
    found = [Expected(y, bound + 1e-30)]
    if input.requires_grad:
        found.append(Expected((w / (var + eps).sqrt()).expand(x.shape), 1e-5))
    return found


@st.composite
def _normalised(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(sizes(0, 2)), draw(sizes(1, 3)), draw(sizes()), draw(sizes())
    how: dict[str, Any] = {"families": ("plain", "zeros", "small", "nan")}
    return {
        "input": draw(tensors(shape, WIDE, kinds=draw(CALL_KINDS), **how)),
        "eps": 1e-5,
        "seed": draw(st.integers(0, 9)),
    }


_SEED: dict[str, Any] = {"seed": None}


def _pool(name: str, torch_pool: Any) -> list[Property]:
    function = getattr(layers, f"atrous_{name}_pool2d")
    kind = getattr(layers, f"Atrous{name.title()}Pool2d")
    reference = _pool_reference(torch_pool, -math.inf if name == "max" else 0.0)
    how: dict[str, Any] = {"names": ("input", "pad", "kernel_size"), "shares": False}
    return [
        Property(
            function.__name__,
            (f"layers.{function.__name__}",),
            function,
            _pooled(),
            reference,
            **how,
        ),
        Property(
            kind.__name__,
            (f"layers.{kind.__name__}",),
            _pool_layer(kind),
            _pooled(),
            reference,
            hostile={"kernel_size": None, "stride": None, "padding": None},
            **how,
        ),
    ]


OPS = [
    Property(
        "AtrousConv2d",
        ("layers.AtrousConv2d", "layers.set_algorithm", "layers.using_algorithm"),
        linear.differentiated(_conv),
        _layer(),
        _conv_reference,
        # its channels and kernel are made of the weight here
        hostile={"weight": None, "bias": None, "algorithm": NUMBERS},
    ),
    Property(
        "ASPP",
        ("layers.ASPP",),
        linear.differentiated(_pyramid),
        _head(),
        _pyramid_reference,
        names=("rate", "weight"),
        hostile={**_SEED, "filters": None, "channels": None, "dtype": None},
    ),
    *_pool("max", torch.nn.functional.max_pool2d),
    *_pool("avg", torch.nn.functional.avg_pool2d),
    Property(
        "FrozenBatchNorm2d",
        ("layers.FrozenBatchNorm2d",),
        linear.differentiated(_frozen),
        _normalised(),
        _frozen_reference,
        hostile={**_SEED, "eps": None, "input": None},
    ),
]
