"""Figures of a segmentation: confusion matrix, IoU, accuracies, and the trimap of Figure 10.

Everything is a sum over pixels: one matrix of counts for the whole set, to which the matrices of
images, of processes and of machines are added up, and the figures at the end.

>>> counts = sum(confusion_matrix(labels, predicted, 21) for labels, predicted in val)
>>> segmentation_scores(counts).mean_iou
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ._integers import LARGEST_INT, integer
from ._native import check_readable, check_tensor

__all__ = [
    "AROUND",
    "TRIMAP_WIDTHS",
    "SegmentationScores",
    "confusion_matrix",
    "segmentation_scores",
    "trimap_counts",
    "trimap_distance",
    "trimap_matrices",
]

TRIMAP_WIDTHS = 40
"""Figure 10 shows w = 1 to 40."""

AROUND = ("void", "boundary")
"""What a trimap is drawn around, see `trimap_distance`."""

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_MOST_CLASSES = 1 << 12  # a matrix of them has 128 MB
_WIDEST = 1024
_FAR = 1 << 20  # pixels: farther than any image is wide


@dataclass(frozen=True)
class SegmentationScores:
    """Figures of a confusion matrix, as shares of 1.

    With C the matrix, row j the pixels labelled j and column j those predicted as j:
    IoU_j = C_jj / (row_j + column_j - C_jj) and accuracy_j = C_jj / row_j.

    Attributes:
        mean_iou: over all classes; one that is neither labelled nor predicted counts as 0. VOC's
            rule, and the paper's.
        mean_iou_present: over the classes that are labelled somewhere.
        mean_class_accuracy, mean_class_accuracy_present: of the accuracies, by the same two rules.
        pixel_accuracy: sum of C_jj / number of pixels.
        class_iou: (L,) float64; NaN for a class that is neither labelled nor predicted.
        class_accuracy: (L,) float64; NaN for a class that is not labelled.
        pixels: their number, those that are void left out.

    What has nothing to be a share of is NaN: all but the means by VOC's rule, which are then 0.
    """

    mean_iou: float
    mean_iou_present: float
    mean_class_accuracy: float
    mean_class_accuracy_present: float
    pixel_accuracy: float
    class_iou: torch.Tensor
    class_accuracy: torch.Tensor
    pixels: int


def segmentation_scores(
    counts: torch.Tensor, classes: Sequence[int] | None = None
) -> SegmentationScores:
    """The figures of a confusion matrix.

    Args:
        counts: (L, L) integers, row = label, column = prediction: of `confusion_matrix`, or of
            torchmetrics' MulticlassConfusionMatrix(L, ignore_index=255).
        classes: the means are over these classes only (None: all). The other classes' pixels still
            count, as what they were mistaken for.

    Raises:
        TypeError: `counts` is no integer tensor, `classes` holds no integers.
        ValueError: `counts` is not square, or has negative numbers; `classes` is empty, has a
            class twice or one that is not there.
    """
    check_tensor("counts", counts, ndim=2, dtypes=_INTEGERS, layout="(L, L)")
    check_readable("counts", counts)
    size = len(counts)
    if counts.shape[1] != size or size == 0:
        raise ValueError(f"counts: expected (L, L), got shape {tuple(counts.shape)}")
    if int(counts.min()) < 0:
        raise ValueError(f"counts: expected numbers of pixels, got {int(counts.min())}")
    if classes is not None and (isinstance(classes, str) or not isinstance(classes, Iterable)):
        raise TypeError(f"classes: expected integers, got {classes!r}")
    chosen = list(range(size)) if classes is None else list(classes)
    if any(isinstance(c, bool) or not isinstance(c, (int, np.integer)) for c in chosen):
        raise TypeError(f"classes: expected integers, got {classes!r}")
    if not chosen or len(set(chosen)) < len(chosen) or not all(0 <= c < size for c in chosen):
        raise ValueError(f"classes: expected different ones of 0 to {size - 1}, got {classes!r}")
    matrix = counts.to("cpu", torch.float64)
    hits, labelled, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    iou = hits / (labelled + predicted - hits)  # 0 / 0 is NaN
    accuracy = hits / labelled
    present = [c for c in chosen if labelled[c] > 0]
    pixels = int(counts.sum())
    return SegmentationScores(
        mean_iou=float(iou[chosen].nan_to_num(0).mean()),
        mean_iou_present=float(iou[present].mean()),
        mean_class_accuracy=float(accuracy[chosen].nan_to_num(0).mean()),
        mean_class_accuracy_present=float(accuracy[present].mean()),
        pixel_accuracy=float(hits.sum()) / pixels if pixels else float("nan"),
        class_iou=iou,
        class_accuracy=accuracy,
        pixels=pixels,
    )


def confusion_matrix(
    labels: torch.Tensor, predicted: torch.Tensor, num_classes: int, *, ignore_index: int = 255
) -> torch.Tensor:
    """Numbers of pixels by label and prediction.

    Args:
        labels: integers of any shape, 0 to `num_classes` - 1 or `ignore_index`.
        predicted: integers of the same shape, on the same device, 0 to `num_classes` - 1 wherever
            the label is not `ignore_index`.
        num_classes: L, 1 to 4096.
        ignore_index: label of the pixels that do not count, none of the classes.

    Returns:
        (L, L) int64 on the same device, row = label, column = prediction.

    Raises:
        TypeError: an argument has another type or dtype.
        ValueError: other values or shapes, other devices.
    """
    pairs = _pairs(labels, predicted, num_classes, ignore_index)
    flat = torch.bincount(pairs[pairs >= 0], minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def trimap_counts(
    labels: torch.Tensor,
    predicted: torch.Tensor,
    num_classes: int,
    *,
    widths: int = TRIMAP_WIDTHS,
    around: str = "void",
    ignore_index: int = 255,
) -> torch.Tensor:
    """Confusion matrices of the pixels at each distance from the outlines, in one pass.

    torchmetrics would have to run `widths` + 1 times, and each run of its confusion matrix takes
    25 times as long as one count of all: what follows is one histogram of (distance, label,
    prediction).

    Args:
        labels, predicted, num_classes, ignore_index: as for `confusion_matrix`; (H, W).
        widths: W, the widest trimap, in pixels.
        around: "void" or "boundary", see `trimap_distance`.

    Returns:
        (W + 1, L, L) int64: [d - 1] counts the pixels at distance d, and [W] all that are farther
        away. Their sum is `confusion_matrix`; `trimap_matrices` are the trimaps.

    Raises:
        TypeError, ValueError: as `confusion_matrix`; labels that are not (H, W).
    """
    if isinstance(widths, bool) or not isinstance(widths, int):
        raise TypeError(f"widths: expected an integer, got {type(widths).__name__}")
    if not 1 <= widths <= _WIDEST:
        raise ValueError(f"widths: expected 1 to {_WIDEST}, got {widths}")
    pairs = _pairs(labels, predicted, num_classes, ignore_index)
    distance = trimap_distance(labels, around=around, ignore_index=ignore_index)
    rows = distance.to(torch.int64).clamp_(max=widths + 1).sub_(1)
    known = pairs >= 0
    size = num_classes**2
    flat = torch.bincount(rows[known] * size + pairs[known], minlength=(widths + 1) * size)
    return flat.reshape(widths + 1, num_classes, num_classes)


def trimap_matrices(counts: torch.Tensor) -> torch.Tensor:
    """(W, L, L) confusion matrices of the trimaps of width 1 to W, from `trimap_counts`' sums."""
    check_tensor("counts", counts, ndim=3, dtypes=_INTEGERS, layout="(W + 1, L, L)")
    return counts[:-1].cumsum(0)


def trimap_distance(
    labels: torch.Tensor, *, around: str = "void", ignore_index: int = 255
) -> torch.Tensor:
    """The width of the narrowest trimap that has a pixel.

    `around` "void" is the paper's (Figure 10; the authors' MyVOCevalsegBoundary.m): the trimap of
    width w is the void region dilated by a square of side 2 w + 1, without void itself. It means
    outlines where void is drawn along them, as in VOC.

    "boundary" is for other sets: the pixels whose label differs from one of their eight
    neighbours', void aside, dilated by a square of side 2 w - 1, without void. Width 1 is the
    pixels on both sides of a change of label.

    Args:
        labels: (H, W) integers.

    Returns:
        (H, W) int32 on the labels' device: 0 for void; above 1024, the widest trimap that
        `trimap_counts` counts, where there is nothing to be around.

    Raises:
        TypeError: `labels` is no integer tensor.
        ValueError: another shape; `around` is unknown.
    """
    check_tensor("labels", labels, ndim=2, dtypes=_INTEGERS, layout="(H, W)")
    check_readable("labels", labels)
    integer("ignore_index", ignore_index, least=-LARGEST_INT)
    if not isinstance(around, str) or around not in AROUND:
        raise ValueError(f"around: expected {' or '.join(AROUND)}, got {around!r}")
    values = labels.cpu().numpy()
    void = values == ignore_index
    seeds = void if around == "void" else _changes(values, void)
    distance = _chessboard_distance(seeds)
    if around == "boundary":
        distance += 1
    distance[void] = 0
    return torch.from_numpy(distance).to(labels.device)


def _changes(values: np.ndarray, void: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels with another label, neither being void, among their eight neighbours."""
    found = np.zeros(values.shape, bool)
    height, width = values.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        # each pair of neighbours once: here (y, x), there (y + dy, x + dx)
        left, right = max(0, -dx), width - max(0, dx)
        here = np.s_[: height - dy, left:right]
        there = np.s_[dy:, left + dx : right + dx]
        differ = (values[here] != values[there]) & ~void[here] & ~void[there]
        found[here] |= differ
        found[there] |= differ
    return found


def _chessboard_distance(seeds: np.ndarray) -> np.ndarray:
    """(H, W) int32: steps of a chess king to the nearest True; _FAR where there is none.

    Along the rows first: the shortest way of a king may take all its horizontal steps in the row
    where it starts, and goes up or down, straight or diagonally, from then on.
    """
    height, width = seeds.shape
    distance = np.full(seeds.shape, _FAR, np.int32)
    if not seeds.any():
        return distance
    x = np.arange(width, dtype=np.int32)
    before = np.maximum.accumulate(np.where(seeds, x, np.int32(-_FAR)), axis=1)
    after = np.minimum.accumulate(np.where(seeds, x, np.int32(2 * _FAR))[:, ::-1], axis=1)[:, ::-1]
    np.minimum(distance, np.minimum(x - before, after - x), out=distance)
    for rows in (range(1, height), range(height - 2, -1, -1)):
        step = rows.step
        for y in rows:
            last = distance[y - step]
            nearest = last.copy()
            np.minimum(nearest[1:], last[:-1], out=nearest[1:])
            np.minimum(nearest[:-1], last[1:], out=nearest[:-1])
            np.minimum(distance[y], nearest + 1, out=distance[y])
    return distance


def _pairs(
    labels: torch.Tensor, predicted: torch.Tensor, num_classes: int, ignore_index: int
) -> torch.Tensor:
    """(label * L + prediction), int64, of every pixel; -1 for those that do not count."""
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"num_classes: expected an integer, got {type(num_classes).__name__}")
    if not 1 <= num_classes <= _MOST_CLASSES:
        raise ValueError(f"num_classes: expected 1 to {_MOST_CLASSES}, got {num_classes}")
    for name, tensor in (("labels", labels), ("predicted", predicted)):
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in _INTEGERS:
            got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise TypeError(f"{name}: expected a tensor of integers, got {got}")
        check_readable(name, tensor)
    integer("ignore_index", ignore_index, least=-LARGEST_INT)
    if labels.shape != predicted.shape or labels.device != predicted.device:
        raise ValueError(
            f"predicted: expected shape and device of labels, {tuple(labels.shape)} on "
            f"{labels.device}, got {tuple(predicted.shape)} on {predicted.device}"
        )
    counted = labels != ignore_index
    pair = labels.to(torch.int64), predicted.to(torch.int64)
    for name, values in zip(("labels", "predicted"), pair, strict=True):
        wrong = values[counted & ((values < 0) | (values >= num_classes))]
        if len(wrong):
            raise ValueError(
                f"{name}: expected 0 to {num_classes - 1} where labels are not {ignore_index}, "
                f"got {int(wrong[0])} (and {len(wrong) - 1} more)"
            )
    return torch.where(counted, pair[0] * num_classes + pair[1], -1)
