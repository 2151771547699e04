"""What may be called at the same time: ops, CRF by its three doors, net; and a data set of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

import deeplab_native.pydensecrf.densecrf as dcrf
from deeplab_native import (
    CRFParams,
    aspp,
    atrous_conv2d,
    dense_crf,
    models,
    permutohedral_filter,
    refine,
    weights,
)

PARAMS = CRFParams(4, 30, 20, 3, 3)
_LABELS = 4
# of every third number; the others have a size of their own, so that lattices are shared and not
_SHARED = (100, 120)


def size_of(number: int) -> tuple[int, int]:
    """Height and width; of the shared one torch's own operations have several threads, too."""
    return _SHARED if number % 3 == 0 else (31 + number % 17, 40 + number % 23)


def inputs(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph (H, W, 3) uint8 and scores (4, H, W) float32."""
    random = np.random.default_rng(number)
    height, width = size_of(number)
    photo = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return photo, 3 * random.standard_normal((_LABELS, height, width), dtype=np.float32)


def _dense_crf(number: int) -> np.ndarray:
    photo, scores = inputs(number)
    unary = -torch.from_numpy(scores)[None].log_softmax(1)
    q = dense_crf(unary, torch.from_numpy(photo).permute(2, 0, 1)[None], PARAMS, iterations=3)
    return q.numpy()


def _refine(number: int) -> np.ndarray:
    photo, scores = inputs(number)
    _, q = refine(photo, scores, kind="logits", params=PARAMS, return_probabilities=True)
    return q


def _drop_in(number: int) -> np.ndarray:
    photo, scores = inputs(number)
    labels, height, width = scores.shape
    field = dcrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(-scores.reshape(labels, -1))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=30, srgb=20, rgbim=photo, compat=4)
    return np.array(field.inference(3))


def _map(number: int) -> torch.Tensor:
    height, width = size_of(number)
    return torch.randn(1, 16, height, width, generator=torch.Generator().manual_seed(number))


@cache
def _filters() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 16, 3, 3, generator=generator) for _ in range(3)]


def _atrous(number: int) -> np.ndarray:
    return atrous_conv2d(_map(number), _filters()[0], rate=2, padding=2).numpy()


def _aspp(number: int) -> np.ndarray:
    return aspp(_map(number), _filters(), None, (2, 4, 6)).numpy()


def _filter(number: int) -> np.ndarray:
    photo, scores = inputs(number)
    features = torch.from_numpy(photo.reshape(-1, 3)).float() / 40
    return permutohedral_filter(torch.from_numpy(scores.reshape(_LABELS, -1).T), features).numpy()


@cache
def _net() -> nn.Module:
    return weights.load_model(weights.EMBEDDED)


def _predict(number: int) -> np.ndarray:
    # small: it takes longer than all others together
    photo = inputs(number)[0][:33, :49]
    return models.predict(_net(), photo, crf=PARAMS).probabilities.numpy()


CALLS: dict[str, Callable[[int], np.ndarray]] = {
    "dense_crf": _dense_crf,
    "refine": _refine,
    "pydensecrf": _drop_in,
    "atrous_conv2d": _atrous,
    "aspp": _aspp,
    "permutohedral_filter": _filter,
    "predict": _predict,
}


def digest(name: str, number: int) -> str:
    """Of the bits of the result."""
    return sha256(np.ascontiguousarray(CALLS[name](number)).tobytes()).hexdigest()


def threads(number: int | None) -> None:
    """Of torch, with it of the kernels, and of the drop-in."""
    torch.set_num_threads(number or 1)
    dcrf.set_num_threads(number)


class Refined(Dataset):
    """Whose items call the CRF: by `refine`, by `dense_crf`, by the drop-in, in turn."""

    def __init__(self, items: int) -> None:
        self._items = items

    def __len__(self) -> int:
        return self._items

    def __getitem__(self, item: int) -> str:
        return digest(("refine", "dense_crf", "pydensecrf")[item % 3], item)
