"""The ops, as cases."""

from __future__ import annotations

import torch
import torch.nn.functional as F

import deeplab_native as dn
from deeplab_native import layers, models
from deeplab_native.ops.dense_crf_loss import dense_crf_loss
from deeplab_native.ops.pairwise_features import image_features, position_features

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
    photo,
)

PARAMS = dn.CRFParams(4, 20, 13, 3, 3)
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
    )


def _pixels(draw: Draw, size: Size) -> Tensors:
    return {
        "input": 2 * draw(size.labels, size.height, size.width),
        "image": photo(draw, size),
    }


def _crf(name: str, differs: dict[str, str], **how: object) -> Case:
    def call(t: Tensors) -> torch.Tensor:
        return dn.dense_crf(t["input"], t["image"], PARAMS, iterations=5, **how)

    exact = how.get("algorithm") == "exact"
    named = f"dense_crf{name}"
    return Case(named, _pixels, call, ("input",), differs=differs, all_pairs=exact)


def _crf_of_a_list(t: Tensors) -> torch.Tensor:
    found = dn.dense_crf(list(t["input"]), list(t["image"]), PARAMS, iterations=5)
    return torch.stack(found) if found else t["input"]


def _mean_field(algorithm: str, differs: dict[str, str]) -> Case:
    def call(t: Tensors) -> torch.Tensor:
        image = t["image"]
        kernels = [
            (position_features(*image.shape[2:], 3.0), t["w"], "symmetric"),
            (image_features(image, 20.0, 13.0), t["matrix"], "after"),
        ]
        return dn.mean_field(t["input"].flatten(2), kernels, iterations=5, algorithm=algorithm)

    exact = algorithm == "exact"
    name = "mean_field" + (', algorithm="exact"' if exact else "")
    of = "input", "w", "matrix"
    return Case(name, _pixels, call, of, _matrix, differs, compiles=False, all_pairs=exact)


def _matrix(draw: Draw, size: Size) -> Tensors:
    return {"w": draw().abs() + 1, "matrix": 1 - torch.eye(size.labels, dtype=torch.float64)}


def _steps(t: Tensors) -> torch.Tensor:
    field = dn.MeanField.from_image(t["input"], t["image"], PARAMS)
    return field.step(field.step(field.start()))


def _layer(t: Tensors) -> torch.Tensor:
    crf = layers.DenseCRF(PARAMS, trainable=("w1",), dtype=torch.float32)
    return crf(t["input"], t["image"])


def _probabilities(draw: Draw, size: Size) -> Tensors:
    t = _pixels(draw, size)
    return {"input": t["input"].softmax(0), "image": t["image"]}


def _loss(scale: float) -> Case:
    differs = {"threads": SUMS}
    if scale != 1:
        differs["layout"] = "torch's interpolation"

    def call(t: Tensors) -> torch.Tensor:
        how = {"sigma_xy": 20.0, "scale_factor": scale, "reduction": "none"}
        return dense_crf_loss(t["image"], t["input"], **how)

    name = "dense_crf_loss" + ("" if scale == 1 else f", scale_factor={scale}")
    return Case(name, _probabilities, call, ("input",), differs=differs)


def _boundary(t: Tensors) -> torch.Tensor:
    return dn.ConstrainToBoundaryLoss()(t["image"], t["input"])[None]


def _labelled(draw: Draw, size: Size) -> Tensors:
    labels = (draw(size.height, size.width).abs() * size.labels).long() % size.labels
    return {"input": draw(size.labels, -(-size.height // 8), -(-size.width // 8)), "labels": labels}


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
    _mean_field("lattice", {"threads": SUMS}),
    _mean_field("exact", {"threads": PRODUCT}),
    _crf("", {"threads": SUMS}),
    _crf(', precision="half"', {"threads": SUMS}, precision="half"),
    _crf(', lattice="bridged"', {"threads": SUMS}, lattice="bridged"),
    _crf(", scale=0.5", {"threads": SUMS}, scale=0.5),
    _crf(', algorithm="exact"', {"compiled": COMPILED}, algorithm="exact"),
    Case("dense_crf of a list", _pixels, _crf_of_a_list, ("input",), differs={"threads": SUMS}),
    Case("MeanField", _pixels, _steps, differs={"threads": SUMS}, compiles=False),
    Case(
        "random_walk",
        _pixels,
        lambda t: dn.random_walk(t["input"], t["image"], sigma_rgb=15, sigma_xy=20, steps=3),
        ("input",),
        differs={"threads": SUMS},
    ),
    _loss(1.0),
    _loss(0.5),
    Case(
        "layers.DenseCRF",
        _pixels,
        _layer,
        ("input",),
        differs={"threads": SUMS, "compiled": COMPILED},
        dtypes=(torch.float32,),
    ),
    Case(
        "layers.ConstrainToBoundaryLoss",
        _pixels,
        _boundary,
        ("input",),
        differs={"threads": SUMS, "compiled": COMPILED},
        batches=False,  # a mean over them
    ),
    Case(
        "models.score_map_loss",
        _labelled,
        lambda t: models.score_map_loss(t["input"], t["labels"])[None],
        ("input",),
        differs={"compiled": COMPILED},
        batches=False,
    ),
]
BY_NAME = {case.name: case for case in CASES}
