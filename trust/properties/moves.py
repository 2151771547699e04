"""What moves pixels and computes nothing: im2col and its adjoint, space to batch and back."""

from __future__ import annotations

import math
from typing import Any

import torch
from hypothesis import strategies as st

import deeplab_native
from python_tests.ops import reference

from . import multilinear as linear
from .contract import Expected, Property
from .convolutions import CALL_KINDS, both, spans
from .strategies import DTYPES, FLOATS, sizes, tensors


@st.composite
def _windows(draw: st.DrawFn, columns: bool = False) -> dict[str, Any]:
    space = [draw(sizes()) for _ in range(2)]
    kernel = [draw(st.integers(1, 3)) for _ in range(2)]
    strides = [draw(st.integers(1, 3)) for _ in range(2)]
    around = [spans(draw, *of) for of in zip(kernel, space, strides, strict=True)]
    rates, paddings = zip(*around, strict=True)
    batch, channels = draw(sizes(0, 2)), draw(sizes(1, 3))
    geometry: dict[str, Any] = {"kernel_size": tuple(kernel), "stride": tuple(strides)}
    geometry |= {"padding": paddings, "rate": rates}
    kinds = draw(CALL_KINDS)
    if not columns:
        return {"input": draw(tensors((batch, channels, *space), kinds=kinds))} | geometry
    pixels = math.prod(
        (n + 2 * p - r * (k - 1) - 1) // s + 1
        for n, k, s, p, r in zip(space, kernel, strides, paddings, rates, strict=True)
    )
    shape = batch, channels * math.prod(kernel), pixels
    return {"columns": draw(tensors(shape, kinds=kinds)), "size": tuple(space)} | geometry


def _im2col_reference(input: Any, **geometry: Any) -> list[Expected]:
    how = [both(geometry[n]) for n in ("kernel_size", "stride", "padding", "rate")]
    taps = math.prod(how[0])
    found = linear.of(lambda x: reference.atrous_im2col(x, *how), [input], taps)
    return [Expected(found[0].values.to(input.dtype), exact=True), *found[1:]]


def _col2im_reference(columns: Any, size: Any, **geometry: Any) -> list[Expected]:
    kernel, *how = [both(geometry[n]) for n in ("kernel_size", "stride", "padding", "rate")]
    height, width = both(size)
    batch, rows, _ = columns.shape
    channels = rows // math.prod(kernel)

    def adjoint(c: torch.Tensor) -> torch.Tensor:
        map_ = torch.zeros(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
        taken = reference.atrous_im2col(map_, kernel, *how)
        if not taken.requires_grad:  # all of it is padding
            return torch.zeros_like(map_)
        return torch.autograd.grad(taken, map_, c, create_graph=True, materialize_grads=True)[0]

    return linear.of(adjoint, [columns], math.prod(kernel))


@st.composite
def _dealt(draw: st.DrawFn) -> dict[str, Any]:
    shape = draw(sizes(0, 2)), draw(sizes(0, 3)), draw(sizes(0, 6)), draw(sizes(0, 6))
    dtype = draw(st.sampled_from(DTYPES))
    kinds = ("plain",) if dtype.startswith("uint") else draw(CALL_KINDS)
    if dtype not in FLOATS:
        kinds = ("plain",)
    rate = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    padding = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    return {"input": draw(tensors(shape, (dtype,), kinds=kinds)), "rate": rate, "padding": padding}


@st.composite
def _blocks(draw: st.DrawFn) -> dict[str, Any]:
    drawn = draw(_dealt())
    batch, channels, *size = drawn["input"].shape
    rate, padding = drawn["rate"], drawn["padding"]
    space = [-(-(n + 2 * p) // r) for n, p, r in zip(size, padding, rate, strict=True)]
    shape = batch * rate[0] * rate[1], channels, *space
    kinds = (drawn["input"].kind,)
    blocks = draw(tensors(shape, (drawn["input"].dtype,), kinds=kinds))
    return {"blocks": blocks, "rate": rate, "size": tuple(size), "padding": padding}


def _dealt_reference(input: Any, rate: Any, padding: Any) -> list[Expected]:
    moved = reference.space_to_batch(_on_cpu(input), both(rate), both(padding))
    return _moved(input, moved)


def _blocks_reference(blocks: Any, rate: Any, size: Any, padding: Any) -> list[Expected]:
    rate, size, padding = both(rate), both(size), both(padding)
    many = math.prod(rate)
    if blocks.shape[0] % many:
        raise ValueError("blocks")
    shape = blocks.shape[0] // many, blocks.shape[1], *size
    places = torch.arange(1, math.prod(shape) + 1).view(shape)
    dealt = reference.space_to_batch(places, rate, padding)
    if dealt.shape != blocks.shape:
        raise ValueError("blocks")
    # as bytes, since torch cannot index with every dtype
    size_of = blocks.element_size()
    out = torch.zeros(math.prod(shape) + 1, size_of, dtype=torch.uint8)
    given = _on_cpu(blocks).flatten()
    out[dealt.flatten()] = given.view(torch.uint8).view(-1, size_of) if len(given) else out[:0]
    moved = out[1:].reshape(-1).view(blocks.dtype).view(shape)
    return _moved(blocks, moved, out=(dealt > 0).double())


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    plain = torch.zeros_like(tensor, device="cpu") if tensor.is_meta else tensor.detach()
    return plain.clone(memory_format=torch.contiguous_format).resolve_conj().resolve_neg()


def _moved(given: torch.Tensor, values: torch.Tensor, out: Any = None) -> list[Expected]:
    found = [Expected(values, exact=True)]
    if given.requires_grad:
        found.append(Expected(torch.ones(given.shape) if out is None else out, exact=True))
    return found


OPS = [
    Property(
        "atrous_im2col",
        ("atrous_im2col",),
        linear.differentiated(deeplab_native.atrous_im2col),
        _windows(),
        _im2col_reference,
    ),
    Property(
        "atrous_col2im",
        ("atrous_col2im",),
        linear.differentiated(deeplab_native.atrous_col2im),
        _windows(columns=True),
        _col2im_reference,
        names=("input",),
    ),
    Property(
        "space_to_batch",
        ("space_to_batch",),
        linear.differentiated(deeplab_native.space_to_batch),
        _dealt(),
        _dealt_reference,
    ),
    Property(
        "batch_to_space",
        ("batch_to_space",),
        linear.differentiated(deeplab_native.batch_to_space),
        _blocks(),
        _blocks_reference,
    ),
]
