"""Figures of label maps, and what turns a picture and labels into better ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from deeplab_native import metrics

from .contract import Expected, Property
from .strategies import INTEGERS, NUMBERS, sizes, tensors

_PLAIN = ("plain",)
_WHOLE: dict[str, Any] = {"families": _PLAIN, "kinds": ("plain", "inference")}
FIGURES = ("mean_iou", "mean_iou_present", "mean_class_accuracy", "pixel_accuracy")


def _of_integers(value: Any) -> np.ndarray:
    if (
        not isinstance(value, torch.Tensor)
        or str(value.dtype).removeprefix("torch.") not in INTEGERS
    ):
        raise TypeError("no integers")
    if value.is_meta:
        return np.zeros(value.shape, np.int64)
    return value.detach().numpy().astype(np.int64)


@st.composite
def _counted(draw: st.DrawFn, flat: bool = False) -> dict[str, Any]:
    classes = draw(st.integers(1, 5))
    shape = (draw(sizes(0, 6)), draw(sizes(0, 6)))
    labels, predicted = (
        draw(tensors(shape, INTEGERS, low=0, high=classes - 1, **_WHOLE)) for _ in range(2)
    )
    ignore = draw(st.sampled_from([255, 0, -1, classes]))
    return {
        "labels": labels,
        "predicted": predicted,
        "num_classes": classes,
        "ignore_index": ignore,
    }


def _matrix(labels: np.ndarray, predicted: np.ndarray, classes: Any, ignore: Any) -> np.ndarray:
    if labels.shape != predicted.shape or isinstance(classes, bool) or not 1 <= classes <= 4096:
        raise ValueError("labels")
    out = np.zeros((classes, classes), np.int64)
    for a, b in zip(labels.ravel(), predicted.ravel(), strict=True):
        if a != ignore:
            if not (0 <= a < classes and 0 <= b < classes):
                raise ValueError("labels")
            out[a, b] += 1
    return out


def _confusion(labels: Any, predicted: Any, num_classes: Any, ignore_index: Any) -> list[Expected]:
    pair = _of_integers(labels), _of_integers(predicted)
    return [Expected(_matrix(*pair, num_classes, ignore_index), exact=True)]


def _distance(labels: np.ndarray, around: str, ignore: Any) -> np.ndarray:
    """Of every pixel to all others, one by one."""
    if labels.ndim != 2 or around not in ("void", "boundary"):
        raise ValueError("labels")
    height, width = labels.shape
    void = labels == ignore
    places = [(y, x) for y in range(height) for x in range(width)]
    near = {
        (y, x): [
            (y + j, x + i) for j in (-1, 0, 1) for i in (-1, 0, 1) if (y + j, x + i) in set(places)
        ]
        for y, x in places
    }
    seeds = [
        p
        for p in places
        if (
            void[p]
            if around == "void"
            else not void[p] and any(labels[p] != labels[o] and not void[o] for o in near[p])
        )
    ]
    out = np.full(labels.shape, 2000, np.int64)
    for y, x in places:
        if void[y, x]:
            out[y, x] = 0
        elif seeds:
            steps = min(max(abs(y - j), abs(x - i)) for j, i in seeds)
            out[y, x] = steps + (around == "boundary")
    return out


@st.composite
def _mapped(draw: st.DrawFn) -> dict[str, Any]:
    shape = (draw(sizes(0, 5)), draw(sizes(0, 5)))
    return {
        "labels": draw(tensors(shape, INTEGERS, low=0, high=2, **_WHOLE)),
        "around": draw(st.sampled_from(["void", "boundary"])),
        "ignore_index": draw(st.sampled_from([255, 0])),
    }


def _near(labels: Any, around: Any, ignore_index: Any) -> Any:
    return metrics.trimap_distance(labels, around=around, ignore_index=ignore_index).clamp(max=2000)


def _near_reference(labels: Any, around: Any, ignore_index: Any) -> list[Expected]:
    return [Expected(_distance(_of_integers(labels), around, ignore_index), exact=True)]


@st.composite
def _rings(draw: st.DrawFn) -> dict[str, Any]:
    around = draw(st.sampled_from(["void", "boundary"]))
    return draw(_counted()) | {"widths": draw(st.integers(1, 4)), "around": around}


def _rings_reference(
    labels: Any, predicted: Any, num_classes: Any, ignore_index: Any, widths: Any, around: Any
) -> list[Expected]:
    truth, guess = _of_integers(labels), _of_integers(predicted)
    if isinstance(widths, bool) or not 1 <= widths <= 1024:
        raise ValueError("widths")
    distance = _distance(truth, around, ignore_index)
    rings = [distance == d for d in range(1, widths + 1)] + [distance > widths]
    found = [_matrix(truth[ring], guess[ring], num_classes, ignore_index) for ring in rings]
    return [Expected(np.stack(found), exact=True)]


@st.composite
def _summed(draw: st.DrawFn) -> dict[str, Any]:
    shape = (draw(sizes(1, 4)), draw(sizes(1, 3)), draw(sizes(1, 3)))
    return {"counts": draw(tensors(shape, ("int64", "int32"), low=0, high=99, **_WHOLE))}


def _summed_reference(counts: Any) -> list[Expected]:
    values = _of_integers(counts)
    if values.ndim != 3:
        raise ValueError("counts")
    return [Expected(values[:-1].cumsum(0), exact=True)]


@st.composite
def _scored(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(sizes(1, 4))
    counts = draw(tensors((size, size), ("int64", "int32"), low=0, high=9, **_WHOLE))
    some = st.lists(st.integers(0, size - 1), min_size=1, unique=True)
    return {"counts": counts, "classes": draw(st.none() | some)}


def _figures(counts: Any, classes: Any) -> Any:
    scores = metrics.segmentation_scores(counts, classes)
    values = torch.tensor([getattr(scores, name) for name in FIGURES], dtype=torch.float64)
    return values, scores.class_iou


def _figures_reference(counts: Any, classes: Any) -> list[Expected]:
    c = _of_integers(counts).astype(float)
    size = len(c)
    chosen = list(range(size)) if classes is None else [int(k) for k in classes]
    if c.shape != (size, size) or not size or c.min() < 0 or not set(chosen) <= set(range(size)):
        raise ValueError("counts")
    with np.errstate(all="ignore"):
        iou = np.array([c[k, k] / (c[k].sum() + c[:, k].sum() - c[k, k]) for k in range(size)])
        accuracy = np.array([c[k, k] / c[k].sum() for k in range(size)])
    present = [k for k in chosen if c[k].sum() > 0]
    values = [
        np.nan_to_num(iou[chosen]).mean(),
        iou[present].mean() if present else math.nan,
        np.nan_to_num(accuracy[chosen]).mean(),
        c.trace() / c.sum() if c.sum() else math.nan,
    ]
    return [Expected(np.array(values), 1e-12), Expected(iou, 1e-12)]


def _property(
    name: str, covers: str, call: Any, given: Any, reference: Any, **how: Any
) -> Property:
    return Property(name, (covers,), call, given, reference, **how)


OPS = [
    _property(
        "confusion_matrix",
        "metrics.confusion_matrix",
        metrics.confusion_matrix,
        _counted(),
        _confusion,
        aliases=(("predicted", "labels"),),
        # a matrix of 4096 classes has 128 MB
        hostile={"num_classes": NUMBERS},
    ),
    _property(
        "segmentation_scores",
        "metrics.segmentation_scores",
        _figures,
        _scored(),
        _figures_reference,
    ),
    _property(
        "trimap_distance",
        "metrics.trimap_distance",
        _near,
        _mapped(),
        _near_reference,
        shares=False,
    ),
    _property(
        "trimap_counts", "metrics.trimap_counts", metrics.trimap_counts, _rings(), _rings_reference
    ),
    _property(
        "trimap_matrices",
        "metrics.trimap_matrices",
        metrics.trimap_matrices,
        _summed(),
        _summed_reference,
    ),
]
