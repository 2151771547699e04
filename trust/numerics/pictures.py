"""What takes one picture and knows nothing of gradients, as cases: CRF of arrays, nets."""

from __future__ import annotations

import functools

import torch

import deeplab_native as dn
from deeplab_native import models, weights
from deeplab_native.pydensecrf import densecrf

from .cases import CONVOLUTION, SUMS, Case, Draw, Size, Tensors, photo

FLOAT32 = (torch.float32,)


def _pixels(draw: Draw, size: Size) -> Tensors:
    scores = 2 * draw(size.labels, size.height, size.width)
    return {"input": scores.log_softmax(0), "image": photo(draw, size)}


def _refine(t: Tensors) -> torch.Tensor:
    how = {"kind": "logits", "iterations": 5, "return_probabilities": True}
    return dn.refine(t["image"][0], t["input"][0], **how)[1][None]


def _drop_in(t: Tensors) -> torch.Tensor:
    _, labels, height, width = t["input"].shape
    # as torch, whose number of threads is what is tried
    densecrf.set_num_threads(torch.get_num_threads())
    try:
        crf = densecrf.DenseCRF2D(width, height, labels)
    finally:
        densecrf.set_num_threads(None)
    crf.setUnaryEnergy(t["input"][0].flatten(1).contiguous().numpy())
    crf.addPairwiseGaussian(sxy=3, compat=3)
    rgb = t["image"][0].permute(1, 2, 0).contiguous().numpy()
    crf.addPairwiseBilateral(sxy=20, srgb=13, rgbim=rgb, compat=4)
    q = torch.from_numpy(crf.inference(5).copy())
    return q.view(1, labels, height, width)


@functools.cache
def _net() -> torch.nn.Module:
    return weights.load_model(weights.EMBEDDED)


def _predict(t: Tensors) -> torch.Tensor:
    params = dn.CRFParams(4, 20, 13, 3, 3)
    return models.predict(_net(), t["image"], crf=params, iterations=5).probabilities


_CASES = [
    Case(
        "refine",
        _pixels,
        _refine,
        differs={"threads": SUMS},
        dtypes=FLOAT32,
        narrow=False,
        batches=False,
        compiles=False,
        takes_scores=True,
    ),
    Case(
        "pydensecrf.densecrf.DenseCRF2D",
        _pixels,
        _drop_in,
        differs={"threads": SUMS},
        dtypes=FLOAT32,
        narrow=False,
        batches=False,
        compiles=False,
        takes_scores=True,
    ),
    Case(
        "models.predict",
        lambda draw, size: {"image": photo(draw, size)},
        _predict,
        differs=dict.fromkeys(("batch", "threads"), CONVOLUTION),
        dtypes=FLOAT32,
        narrow=False,
        compiles=False,
        nets=True,
    ),
]
CASES = [case._replace(dear=True) for case in _CASES]
