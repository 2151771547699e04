"""`refine`: a picture and what is known of its labels, in all containers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from deeplab_native import CRFParams, refine
from deeplab_native.crf import PRESETS

from .contract import Expected, Property
from .fields import TOLERANCE
from .pixels import crf_of, params
from .strategies import ANY_NUMBERS, NUMBERS, arrays, tensors

_PLAIN = ("plain",)
_WHOLE: dict[str, Any] = {"families": _PLAIN, "kinds": ("plain", "inference")}


@st.composite
def _refined(draw: st.DrawFn) -> dict[str, Any]:
    height, width = draw(st.integers(4, 5)), draw(st.integers(4, 5))
    kind = draw(st.sampled_from(["mask", "labels", "probabilities"]))
    shape = (height, width, 3)
    pictures: Any = arrays(shape, ("uint8",), _PLAIN, 0, 255)
    if draw(st.booleans()):
        pictures = tensors((3, height, width), ("uint8",), low=0, high=255, **_WHOLE)
    dtypes = {"mask": ("bool",), "labels": ("uint8", "int32", "int64", "uint16", "int8")}.get(
        kind, ("float32", "float64")
    )
    if draw(st.booleans()):
        given: Any = draw(arrays((height, width), dtypes, _PLAIN, 0, 1 if kind != "labels" else 3))
    else:
        known = [d for d in dtypes if d != "uint16"]
        high = 1 if kind != "labels" else 3
        given = draw(tensors((height, width), known, low=0, high=high, **_WHOLE))
    return {
        "image": draw(pictures),
        "labels_or_scores": given,
        "kind": kind,
        "params": draw(params() | st.sampled_from(sorted(PRESETS))),
        "iterations": draw(st.integers(0, 2)),
        "confidence": 0.7,
    }


def _plain_array(value: Any) -> np.ndarray:
    if not isinstance(value, (np.ndarray, torch.Tensor)):
        raise TypeError("no array")
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def _refined_reference(
    image: Any, labels_or_scores: Any, kind: Any, params: Any, iterations: Any, confidence: Any
) -> list[Expected] | None:
    pixels, given = _plain_array(image), _plain_array(labels_or_scores)
    if pixels.ndim != 3 or given.ndim != 2 or pixels.dtype != np.uint8:
        return None  # other forms have tests of their own
    planes = pixels if pixels.shape[1:] == given.shape else np.moveaxis(pixels, -1, 0)
    if kind == "probabilities":
        if given.dtype.kind != "f":
            return None
        p = given.astype(float)
        if not ((p >= -0.05) & (p <= 1.05)).all():
            raise ValueError("no probabilities")
        unary = -np.log(np.maximum(np.stack([1 - p, p]), 1e-5))
        numbers: Any = [False, True]
    elif kind == "mask" and given.dtype == bool:
        numbers = [False, True]
    elif kind == "labels" and given.dtype.kind in "iu":
        numbers = np.unique(given)
        if given.min() < 0 or given.max() > 3:
            return None
    else:
        return None
    if kind != "probabilities":
        if not 1 / max(2, len(numbers)) < confidence < 1:
            raise ValueError("confidence")
        other = -math.log((1 - confidence) / max(1, len(numbers) - 1))
        unary = np.stack([np.where(given == n, -math.log(confidence), other) for n in numbers])
    if len(numbers) == 1:
        return [Expected(given, exact=True)]
    if isinstance(iterations, bool) or int(iterations) < 0:
        raise ValueError("iterations")
    crf = PRESETS[params] if isinstance(params, str) else params
    assert isinstance(crf, CRFParams)
    q = crf_of(unary, planes.astype(float), crf, "symmetric", False).inference(int(iterations))
    best = np.sort(q, 0)
    sure = (best[-1] - best[-2] > 10 * TOLERANCE).reshape(given.shape)
    labels = np.asarray(numbers)[q.argmax(0)].reshape(given.shape)
    return [Expected(labels.astype(float), np.where(sure, 0, math.inf))]


OPS = [
    Property(
        "refine",
        ("refine",),
        refine,
        _refined(),
        _refined_reference,
        names=("scores", "preset"),
        hostile={
            "iterations": NUMBERS,
            "params": NUMBERS,
            "kind": NUMBERS,
            "confidence": ANY_NUMBERS,
        },
    ),
]
