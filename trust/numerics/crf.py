"""What has a CRF or its filter inside, as cases; and the losses."""

from __future__ import annotations

import torch

import deeplab_native as dn
from deeplab_native import layers, models
from deeplab_native.ops.dense_crf_loss import dense_crf_loss
from deeplab_native.ops.pairwise_features import image_features, position_features

from .cases import PRODUCT, SUMS, Case, Draw, Size, Tensors, photo

PARAMS = dn.CRFParams(4, 20, 13, 3, 3)


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
    return Case(
        named, _pixels, call, ("input",), differs=differs, all_pairs=exact, compiles=not exact
    )


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
    return Case(
        name, _probabilities, call, ("input",), differs=differs, dear=True, compiles=scale == 1
    )


def _boundary(t: Tensors) -> torch.Tensor:
    return dn.ConstrainToBoundaryLoss()(t["image"], t["input"])[None]


def _labelled(draw: Draw, size: Size) -> Tensors:
    labels = (draw(size.height, size.width).abs() * size.labels).long() % size.labels
    return {"input": draw(size.labels, -(-size.height // 8), -(-size.width // 8)), "labels": labels}


_CASES = [
    _mean_field("lattice", {"threads": SUMS}),
    _mean_field("exact", {"threads": PRODUCT}),
    _crf("", {"threads": SUMS}),
    _crf(', precision="half"', {"threads": SUMS}, precision="half"),
    _crf(', lattice="bridged"', {"threads": SUMS}, lattice="bridged"),
    _crf(", scale=0.5", {"threads": SUMS}, scale=0.5),
    _crf(', algorithm="exact"', {}, algorithm="exact"),
    Case(
        "dense_crf of a list",
        _pixels,
        _crf_of_a_list,
        ("input",),
        differs={"threads": SUMS},
        compiles=False,
    ),
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
        differs={"threads": SUMS},
        dtypes=(torch.float32,),
        compiles=False,
    ),
    Case(
        "layers.ConstrainToBoundaryLoss",
        _pixels,
        _boundary,
        ("input",),
        differs={"threads": SUMS},
        batches=False,  # a mean over them
        compiles=False,
    ),
    Case(
        "models.score_map_loss",
        _labelled,
        lambda t: models.score_map_loss(t["input"], t["labels"])[None],
        ("input",),
        batches=False,
        compiles=False,
    ),
]
CASES = [case._replace(dear=True) for case in _CASES]
