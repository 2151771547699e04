"""Figures of confusion matrices, and the trimap, against their definitions, one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("hypothesis")
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deeplab_native import metrics

VOID = 255
CLASSES = 4
quick = settings(max_examples=60, deadline=None)
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def label_maps(draw, void=True):
    """Labels and predictions of 4 classes, from all alike to a different one in every pixel."""
    size = draw(sizes)
    values = st.sampled_from([0, 0, 0, 1, 2, 3, *([VOID] if void else [])])
    labels = draw(arrays(np.uint8, size, elements=values, fill=st.just(0)))
    predicted = draw(arrays(np.uint8, size, elements=st.integers(0, CLASSES - 1)))
    return labels, predicted


def count(labels, predicted, where=None):
    """The definition: a loop over the pixels."""
    matrix = np.zeros((CLASSES, CLASSES), np.int64)
    for at in np.ndindex(labels.shape):
        if labels[at] != VOID and (where is None or where[at]):
            matrix[labels[at], predicted[at]] += 1
    return matrix


def trimap(labels, width, around):
    """The definition: a pixel is in it where the square around it has what the trimap is around."""
    height, length = labels.shape

    def square(y, x, side):
        return labels[max(0, y - side) : y + side + 1, max(0, x - side) : x + side + 1]

    def at_a_change(y, x):
        if labels[y, x] == VOID:
            return False
        near = square(y, x, 1)
        return bool(((near != labels[y, x]) & (near != VOID)).any())

    found = np.zeros(labels.shape, bool)
    for y, x in np.ndindex(labels.shape):
        if labels[y, x] == VOID:
            continue
        if around == "void":
            found[y, x] = (square(y, x, width) == VOID).any()
        else:
            w = width - 1
            found[y, x] = any(
                at_a_change(j, i)
                for j in range(max(0, y - w), min(height, y + w + 1))
                for i in range(max(0, x - w), min(length, x + w + 1))
            )
    return found


def figures(matrix, chosen):
    """The definitions of the paper's measures, class by class."""
    ious, accuracies, present = [], [], []
    for j in chosen:
        row, column, hit = matrix[j].sum(), matrix[:, j].sum(), matrix[j, j]
        ious.append(hit / max(1, row + column - hit))  # VOC's rule: 0 / 1 for an absent class
        accuracies.append(hit / max(1, row))
        present.append(row > 0)
    of_present = [(i, a) for i, a, p in zip(ious, accuracies, present, strict=True) if p]
    return {
        "mean_iou": np.mean(ious),
        "mean_iou_present": np.mean([i for i, _ in of_present]) if of_present else math.nan,
        "mean_class_accuracy": np.mean(accuracies),
        "mean_class_accuracy_present": (
            np.mean([a for _, a in of_present]) if of_present else math.nan
        ),
        "pixel_accuracy": np.trace(matrix) / matrix.sum() if matrix.sum() else math.nan,
    }


@quick
@given(label_maps())
def test_confusion_matrix_is_a_count_of_pixels(maps):
    labels, predicted = maps
    found = metrics.confusion_matrix(*map(torch.from_numpy, maps), CLASSES)
    assert found.dtype == torch.int64
    assert np.array_equal(found.numpy(), count(labels, predicted))


def test_confusion_matrix_by_hand():
    labels = torch.tensor([[0, 0, 1], [1, 2, 255]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 1, 1], [1, 0, 200]])  # under void anything may be predicted
    expected = [[1, 1, 0], [0, 2, 0], [1, 0, 0]]  # row = label
    found = metrics.confusion_matrix(labels, predicted, 3)
    assert found.tolist() == expected
    scores = metrics.segmentation_scores(found)
    assert scores.class_iou.tolist() == pytest.approx([1 / 3, 2 / 3, 0])
    assert scores.class_accuracy.tolist() == pytest.approx([1 / 2, 1, 0])
    assert scores.mean_iou == pytest.approx(1 / 3)
    assert scores.mean_class_accuracy == pytest.approx(1 / 2)
    assert (scores.pixel_accuracy, scores.pixels) == (pytest.approx(3 / 5), 5)


def test_absent_classes_by_both_rules():
    matrix = torch.tensor([[3, 1, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    scores = metrics.segmentation_scores(matrix)
    assert scores.mean_iou == pytest.approx((3 / 4 + 4 / 5) / 4)
    assert scores.mean_iou_present == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores.mean_class_accuracy_present == pytest.approx((3 / 4 + 1) / 2)
    assert scores.class_iou.isnan().tolist() == [False, False, True, True]
    predicted_only = metrics.segmentation_scores(torch.tensor([[3, 1], [0, 0]]))
    assert predicted_only.class_iou.tolist() == [0.75, 0]
    assert predicted_only.class_accuracy.isnan().tolist() == [False, True]


@quick
@given(
    arrays(np.int64, (CLASSES, CLASSES), elements=st.sampled_from([0, 0, 1, 7, 10**12])),
    st.permutations(range(CLASSES)),
    st.integers(1, CLASSES),
)
def test_figures_of_any_matrix(matrix, order, number):
    chosen = order[:number]
    scores = metrics.segmentation_scores(torch.from_numpy(matrix), chosen)
    for name, value in figures(matrix, chosen).items():
        assert getattr(scores, name) == pytest.approx(value, nan_ok=True, rel=1e-12), name
    assert scores.pixels == matrix.sum()


def test_nothing_counted():
    scores = metrics.segmentation_scores(torch.zeros(3, 3, dtype=torch.int64))
    assert (scores.mean_iou, scores.pixels) == (0, 0)
    assert math.isnan(scores.mean_iou_present) and math.isnan(scores.pixel_accuracy)


@quick
@given(label_maps(), st.sampled_from(metrics.AROUND))
def test_trimaps_of_every_width(maps, around):
    labels, predicted = maps
    widths = 11  # more than an image is wide
    counts = metrics.trimap_counts(
        *map(torch.from_numpy, maps), CLASSES, widths=widths, around=around
    )
    assert np.array_equal(counts.sum(0).numpy(), count(labels, predicted))
    matrices = metrics.trimap_matrices(counts)
    assert matrices.shape == (widths, CLASSES, CLASSES)
    for width in range(1, widths + 1):
        expected = count(labels, predicted, trimap(labels, width, around))
        assert np.array_equal(matrices[width - 1].numpy(), expected), width


def test_trimap_of_a_point_is_a_square():
    labels = torch.zeros(90, 100, dtype=torch.uint8)
    labels[40, 50] = VOID
    distance = metrics.trimap_distance(labels)
    y, x = torch.meshgrid(torch.arange(90), torch.arange(100), indexing="ij")
    assert torch.equal(distance.long(), torch.maximum((y - 40).abs(), (x - 50).abs()))
    counts = metrics.trimap_counts(labels, labels * 0, 1)
    sizes = metrics.trimap_matrices(counts)[:, 0, 0]
    assert sizes.tolist() == [(2 * w + 1) ** 2 - 1 for w in range(1, 41)]


def test_boundary_trimap_of_two_halves():
    labels = torch.zeros(4, 10, dtype=torch.int64)
    labels[:, 5:] = 3
    distance = metrics.trimap_distance(labels, around="boundary")
    assert distance[0].tolist() == [5, 4, 3, 2, 1, 1, 2, 3, 4, 5]
    labels[:, 4:6] = VOID  # a strip of void between them: no label changes
    distance = metrics.trimap_distance(labels, around="boundary")
    assert (distance[labels != VOID] > 1024).all() and (distance[labels == VOID] == 0).all()


def test_small_images_without_outlines_are_in_no_trimap():
    labels = torch.zeros(3, 3, dtype=torch.uint8)
    for around in metrics.AROUND:
        counts = metrics.trimap_counts(labels, labels, 2, around=around)
        assert metrics.trimap_matrices(counts).sum() == 0 and counts.sum() == 9


def test_same_matrix_as_torchmetrics():
    classification = pytest.importorskip("torchmetrics.functional.classification")
    labels, predicted = torch.randint(0, 21, (2, 50, 70))
    labels[torch.rand(50, 70) < 0.2] = VOID
    theirs = classification.multiclass_confusion_matrix(predicted, labels, 21, ignore_index=VOID)
    ours = metrics.confusion_matrix(labels, predicted, 21)
    assert torch.equal(ours, theirs)
    iou = classification.multiclass_jaccard_index(predicted, labels, 21, ignore_index=VOID)
    assert metrics.segmentation_scores(theirs).mean_iou == pytest.approx(float(iou), abs=1e-6)


ZEROS = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: metrics.confusion_matrix(ZEROS + 5, ZEROS, 5), ValueError, "labels: .* 0 to 4"),
        (lambda: metrics.confusion_matrix(ZEROS, ZEROS + 5, 5), ValueError, "predicted: .*got 5"),
        (lambda: metrics.confusion_matrix(ZEROS, ZEROS - 1, 5), ValueError, "predicted: .*got -1"),
        (lambda: metrics.confusion_matrix(ZEROS, ZEROS[:1], 5), ValueError, "predicted: .*shape"),
        (lambda: metrics.confusion_matrix(ZEROS.float(), ZEROS, 5), TypeError, "labels: .*float32"),
        (lambda: metrics.confusion_matrix(ZEROS, [0], 5), TypeError, "predicted: .*list"),
        (lambda: metrics.confusion_matrix(ZEROS, ZEROS, 0), ValueError, "num_classes: .*got 0"),
        (lambda: metrics.confusion_matrix(ZEROS, ZEROS, 2.0), TypeError, "num_classes: .*float"),
        (lambda: metrics.trimap_counts(ZEROS, ZEROS, 2, widths=0), ValueError, "widths: "),
        (lambda: metrics.trimap_counts(ZEROS, ZEROS, 2, widths=2.0), TypeError, "widths: "),
        (lambda: metrics.trimap_counts(ZEROS, ZEROS, 2, around="x"), ValueError, "around: .*'x'"),
        (lambda: metrics.trimap_counts(ZEROS[0], ZEROS[0], 2), ValueError, "labels: "),
        (lambda: metrics.trimap_distance(ZEROS[None]), ValueError, "labels: "),
        (lambda: metrics.trimap_matrices(ZEROS), ValueError, "counts: "),
        (lambda: metrics.segmentation_scores(ZEROS), ValueError, r"counts: .*\(2, 3\)"),
        (lambda: metrics.segmentation_scores(ZEROS[:, :2].float()), TypeError, "counts: "),
        (lambda: metrics.segmentation_scores(ZEROS[:, :2] - 1), ValueError, "counts: .*-1"),
        (lambda: metrics.segmentation_scores(ZEROS[:, :2], [0, 0]), ValueError, "classes: "),
        (lambda: metrics.segmentation_scores(ZEROS[:, :2], [2]), ValueError, "classes: "),
        (lambda: metrics.segmentation_scores(ZEROS[:, :2], []), ValueError, "classes: "),
        (lambda: metrics.segmentation_scores(ZEROS[:, :2], ["a"]), TypeError, "classes: "),
    ],
)
def test_wrong_arguments(call, error, words):
    with pytest.raises(error, match=words):
        call()
