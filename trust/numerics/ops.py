"""The ops, as cases: convolutions, what moves pixels, filters; those of the CRF are in `crf`."""

from __future__ import annotations

import torch
import torch.nn.functional as F

import deeplab_native as dn

from . import crf
from .cases import (
    COMPILED,
    CONVOLUTION,
    PRODUCT,
    SIZES,
    SUMS,
    Case,
    Draw,
    Size,
    Tensors,
)

RATES = (1, 2, 4)


def _map(draw: Draw, size: Size) -> Tensors:
    return {"input": draw(size.channels, size.height, size.width)}


def _weight(draw: Draw, size: Size) -> Tensors:
    weight = draw(size.labels, size.channels, 3, 3) / (3 * size.channels**0.5)
    return {"weight": weight, "bias": draw(size.labels)}


def _branches(draw: Draw, size: Size) -> Tensors:
    scale = 3 * size.channels**0.5
    shape = size.labels, size.channels, 3, 3
    return {f"weight{i}": draw(*shape) / scale for i in range(len(RATES))}


def _conv(algorithm: str) -> Case:
    why = PRODUCT if algorithm == "im2col" else CONVOLUTION
    return Case(
        f"atrous_conv2d, {algorithm}",
        _map,
        lambda t: dn.atrous_conv2d(
            t["input"], t["weight"], t["bias"], padding=2, rate=2, algorithm=algorithm
        ),
        ("input", "weight", "bias"),
        _weight,
        dict.fromkeys(("batch", "threads", "layout", "alignment", "compiled"), why),
        peer=lambda t: F.conv2d(t["input"], t["weight"], t["bias"], padding=2, dilation=2),
    )


def _conv1d(draw: Draw, size: Size) -> Tensors:
    return {"input": draw(size.channels, size.width * 4)}


def _weight1d(draw: Draw, size: Size) -> Tensors:
    return {"weight": draw(size.labels, size.channels, 3) / (3 * size.channels) ** 0.5}


def _aspp(t: Tensors) -> torch.Tensor:
    return dn.aspp(t["input"], [t[f"weight{i}"] for i in range(len(RATES))], None, RATES)


def _aspp_by_torch(t: Tensors) -> torch.Tensor:
    each = enumerate(RATES)
    return sum(F.conv2d(t["input"], t[f"weight{i}"], padding=r, dilation=r) for i, r in each)


def _columns(draw: Draw, size: Size) -> Tensors:
    return {"input": draw(size.channels * 9, size.height * size.width)}


def _blocks(draw: Draw, size: Size) -> Tensors:
    shape = 4, size.channels, -(-size.height // 2), -(-size.width // 2)
    return {"input": draw(*shape)}


def _batch_to_space(t: Tensors) -> torch.Tensor:
    blocks = t["input"].flatten(0, 1)
    height, width = (2 * n - 1 for n in blocks.shape[2:])
    return dn.batch_to_space(blocks, 2, (height, width))


def _scores(draw: Draw, size: Size) -> Tensors:
    return {"input": 3 * draw(size.labels, size.height // 4, size.width // 4)}


def _upsample(t: Tensors) -> torch.Tensor:
    height, width = (8 * (n - 1) + 1 for n in t["input"].shape[2:])
    return dn.upsample_unary(t["input"], (height, width))


def _upsample_by_torch(t: Tensors) -> torch.Tensor:
    size = [8 * (n - 1) + 1 for n in t["input"].shape[2:]]
    wide = F.interpolate(t["input"], size, mode="bilinear", align_corners=True)
    return -wide.log_softmax(1)


def _points(draw: Draw, size: Size) -> Tensors:
    return {"input": draw(size.points, 3), "features": 2 * draw(size.points, 5)}


def widened(features: torch.Tensor) -> torch.Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _filter(lattice: str) -> Case:
    name = "permutohedral_filter" + (", bridged" if lattice == "bridged" else "")
    return Case(
        name,
        _points,
        lambda t: dn.permutohedral_filter(
            t["input"], t["features"].to(torch.float32), lattice=lattice
        ),
        ("input", "features"),
        differs={"threads": SUMS, "compiled": COMPILED},
        dear=True,
    )


CASES = [
    *map(_conv, ("auto", "aten", "im2col", "space_to_batch")),
    Case(
        "atrous_conv1d",
        _conv1d,
        lambda t: dn.atrous_conv1d(t["input"], t["weight"], padding=2, rate=2),
        ("input", "weight"),
        _weight1d,
        dict.fromkeys(("batch", "threads", "layout", "alignment", "compiled"), CONVOLUTION),
        peer=lambda t: F.conv1d(t["input"], t["weight"], padding=2, dilation=2),
    ),
    Case(
        "aspp",
        _map,
        _aspp,
        ("input", *(f"weight{i}" for i in range(len(RATES)))),
        _branches,
        dict.fromkeys(("batch", "threads", "layout", "alignment", "compiled"), SIZES),
        peer=_aspp_by_torch,
    ),
    Case(
        "atrous_im2col",
        _map,
        lambda t: dn.atrous_im2col(t["input"], 3, padding=2, rate=2),
        ("input",),
        peer=lambda t: F.unfold(t["input"], 3, padding=2, dilation=2),
    ),
    Case(
        "atrous_col2im",
        lambda draw, size: {**_columns(draw, size), "like": draw(size.height, size.width)},
        lambda t: dn.atrous_col2im(t["input"], t["like"].shape[1:], 3, padding=2, rate=2),
        ("input",),
        peer=lambda t: F.fold(t["input"], t["like"].shape[1:], 3, padding=2, dilation=2),
    ),
    Case(
        "space_to_batch",
        _map,
        lambda t: dn.space_to_batch(t["input"], 2, 1).unflatten(0, (-1, 4)),
        ("input",),
    ),
    Case("batch_to_space", _blocks, _batch_to_space, ("input",)),
    Case("upsample_unary", _scores, _upsample, ("input",), peer=_upsample_by_torch),
    _filter("standard"),
    _filter("bridged"),
    Case(
        "gauss_transform",
        _points,
        lambda t: dn.gauss_transform(t["input"], widened(t["features"])),
        ("input", "features"),
        differs={"compiled": COMPILED},
        all_pairs=True,
    ),
    *crf.CASES,
]
BY_NAME = {case.name: case for case in CASES}
