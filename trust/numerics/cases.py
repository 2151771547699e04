"""Calls of every public op, made of images that are the same whatever batch they are in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

Tensors = dict[str, torch.Tensor]
Draw = Callable[..., torch.Tensor]  # standard normal numbers (*shape), float64


class Size(NamedTuple):
    """Of what the ops are called with: pixels, channels, labels, points."""

    height: int
    width: int
    channels: int
    labels: int
    points: int


SMALL = Size(19, 22, 6, 4, 300)
LARGE = Size(45, 62, 16, 11, 3000)
MIDDLE = Size(19, 26, 16, 5, 400)  # where a pixel costs much, in place of the large one

SAME: Mapping[str, str] = {}
CONVOLUTION = "torch's convolution"
PRODUCT = "torch's product of matrices"
SUMS = "sums over the points of a vertex, in parts, one for each thread"
COMPILED = "the generated code of torch's own operators in it rounds elsewhere"
SIZES = "torch's product of matrices, whose order of sums depends on the sizes"


class Case(NamedTuple):
    """A public op, and what it is called with.

    image: the tensors of one image, without a dimension for the batch. shared: those that all
    images share. call: of both, images stacked; what it gives has the images first. gradients: with
    respect to which. differs: what may change the last bits, and why; what is not in it may not.
    peer: the same of torch's own operators, where there is such a thing.
    """

    name: str
    image: Callable[[Draw, Size], Tensors]
    call: Callable[[Tensors], torch.Tensor]
    gradients: Sequence[str] = ()
    shared: Callable[[Draw, Size], Tensors] = lambda draw, size: {}
    differs: Mapping[str, str] = SAME
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.float64)
    narrow: bool = True  # whether it takes bfloat16 and float16
    batches: bool = True
    compiles: bool = True
    all_pairs: bool = False
    dear: bool = False
    takes_scores: bool = False  # and a photograph of bytes alone
    nets: bool = False  # rounding of one layer is amplified by the next
    peer: Callable[[Tensors], torch.Tensor] | None = None

    def __str__(self) -> str:
        return self.name


def of_size(case: Case, size: Size) -> Size:
    return MIDDLE if (case.all_pairs or case.dear) and size == LARGE else size


def drawing(seed: int) -> Draw:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def as_dtype(tensors: Tensors, dtype: torch.dtype) -> Tensors:
    """Floating-point ones in the dtype; images of integers stay."""
    return {k: t.to(dtype) if t.is_floating_point() else t for k, t in tensors.items()}


def batch_of(case: Case, size: Size, dtype: torch.dtype, images: Sequence[int]) -> Tensors:
    """The tensors for `call`; image i is the same in every batch."""
    own = [case.image(drawing(100 + i), size) for i in images]
    stacked = {k: torch.stack([tensors[k] for tensors in own]) for k in own[0]}
    return as_dtype({**stacked, **case.shared(drawing(7), size)}, dtype)


def results(case: Case, tensors: Tensors, call: Any = None) -> Tensors:
    """What the op gives, as "out", and the gradients, by the tensors' names.

    The upstream gradient is the same for every image, wherever it is in a batch.
    """
    given = {
        k: t.detach().requires_grad_(k in case.gradients) if t.is_floating_point() else t
        for k, t in tensors.items()
    }
    out = (call or case.call)(given)
    found = {"out": out.detach()}
    if case.gradients:
        # of few bits, so that it is the same number in every dtype
        one = torch.arange(out.shape[1:].numel(), dtype=torch.float64).cos().mul(64).round() / 64
        one = one.view(out.shape[1:])
        upstream = one.to(out.dtype).expand_as(out).contiguous()
        wanted = [given[k] for k in case.gradients]
        for k, grad in zip(case.gradients, torch.autograd.grad(out, wanted, upstream), strict=True):
            found[k] = grad
    return found


def of_image(case: Case, found: Tensors, i: int, size: Size) -> Tensors:
    """What belongs to image i of a batch: gradients of what is shared belong to none."""
    shared = case.shared(drawing(7), size)
    return {k: t[i] for k, t in found.items() if k not in shared}


def photo(draw: Draw, size: Size, *, channels: int = 3) -> torch.Tensor:
    """A smooth picture with noise (C, H, W) uint8."""
    y = torch.linspace(0, 3, size.height, dtype=torch.float64)[:, None]
    x = torch.linspace(0, 4, size.width, dtype=torch.float64)
    phase = draw(channels, 1, 1)
    picture = 128 + 90 * (y + phase).sin() * (x - phase).cos()
    return (picture + 8 * draw(channels, size.height, size.width)).clamp(0, 255).to(torch.uint8)
