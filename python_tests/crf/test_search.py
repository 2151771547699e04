"""The search for CRF parameters: grids, counts, what candidates share, and what it finds."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from deeplab_native import CRFParams, dense_crf
from deeplab_native.crf.candidates import (
    CandidateCounts,
    CandidateFields,
    Fixed,
    LabelCounts,
    Sample,
    count_scores,
    near_boundary,
)
from deeplab_native.crf.search import (
    Candidate,
    Figures,
    Grid,
    Total,
    coarse_to_fine,
    figures,
    present_classes,
    rank,
)
from deeplab_native.ops.pairwise_features import PixelFeatures
from python_tests.crf.search_cases import LABELS, PLANTED, planted

FIXED = Fixed()


def test_the_coarse_grid_is_the_papers():
    candidates = Grid().candidates()
    assert len(candidates) == len(set(candidates)) == 4 * 8 * 4
    assert {c.w1 for c in candidates} == {3, 4, 5, 6} == {c.sigma_beta for c in candidates}
    assert {c.sigma_alpha for c in candidates} == {30, 40, 50, 60, 70, 80, 90, 100}
    assert (FIXED.w2, FIXED.sigma_gamma, FIXED.iterations) == (3, 3, 10)
    # those of the same sigmas stand together
    changes = sum(a[1:] != b[1:] for a, b in itertools.pairwise(candidates))
    assert changes == 8 * 4 - 1


def test_a_finer_grid_halves_the_steps():
    grid = Grid([3, 4, 6], [30, 40, 60], [1, 3])
    finer = grid.around(Candidate(4, 60, 1))
    assert finer.w1 == (3.5, 4, 5)  # each side has its own step
    assert finer.sigma_alpha == (50, 60, 70)  # beyond the end
    assert finer.sigma_beta == (1, 2)  # 0 is no sigma
    assert finer.around(Candidate(4, 50, 1)).sigma_alpha == (45, 50, 55)
    assert Grid([4], [30, 40], [3]).around(Candidate(4, 30, 3)).w1 == (4,)
    assert Grid([2, 1, 2.0], [30], [3]).w1 == (1, 2)


def test_ends_of_the_grid():
    grid = Grid([3, 4, 5], [30, 40], [3])
    assert grid.at_edge(Candidate(4, 30, 3)) == ["sigma_alpha"]
    assert grid.at_edge(Candidate(5.5, 35, 3)) == ["w1"]
    assert grid.at_edge(Candidate(4.5, 35, 3)) == []


@pytest.mark.parametrize(
    ("axes", "error", "words"),
    [
        ({"w1": []}, ValueError, "w1: expected at least one"),
        ({"sigma_alpha": [30, 0]}, ValueError, "sigma_alpha: .* got 0"),
        ({"sigma_beta": [math.nan]}, ValueError, "sigma_beta: .* got nan"),
        ({"w1": range(1, 102)}, ValueError, "w1: expected at most 100 values, got 101"),
        ({"w1": ["3"]}, TypeError, "w1: expected numbers, got '3'"),
        ({"w1": 3}, TypeError, "w1: expected a list"),
    ],
)
def test_grids_that_cannot_be(axes, error, words):
    with pytest.raises(error, match=words):
        Grid(**axes)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"sigma_gamma": 0.0}, ValueError, "sigma_gamma"),
        ({"w2": math.inf}, ValueError, "w2"),
        ({"iterations": -1}, ValueError, "iterations"),
        ({"normalization": "no"}, ValueError, "normalization"),
        ({"void": 256}, ValueError, "void: expected 0 to 255"),
        ({"band": 0}, ValueError, "band: expected 1"),
        ({"band": 1.5}, TypeError, "band: expected an integer"),
    ],
)
def test_fixed_values_that_cannot_be(values, error, words):
    with pytest.raises(error, match=words):
        Fixed(**values)


def test_near_boundary_is_a_search_of_the_square():
    labels = torch.randint(0, 2, (2, 9, 14)).repeat_interleave(3, 2)[..., :14]
    labels[1, :, :9] = 255
    for distance in (1, 2, 5):
        expected = np.zeros((2, 9, 14), bool)
        for b, y, x in np.ndindex(2, 9, 14):
            top, left = max(0, y - distance), max(0, x - distance)
            square = labels[b, top : y + distance + 1, left : x + distance + 1]
            expected[b, y, x] = bool((square != labels[b, y, x]).any())
        assert np.array_equal(near_boundary(labels, distance).numpy(), expected)


def test_counts_are_those_of_a_loop():
    labels = torch.randint(0, 3, (2, 8, 11)).repeat_interleave(2, 2)[..., :11].to(torch.uint8)
    labels[:, 3, 4:7] = 255
    predicted = torch.randint(0, 3, (2, 8 * 11))
    band = near_boundary(labels, 1).long()
    expected = np.zeros((2, 2, 3, 3), np.int64)
    for b, y, x in np.ndindex(2, 8, 11):
        if labels[b, y, x] != 255:
            expected[b, band[b, y, x], labels[b, y, x], predicted[b, y * 11 + x]] += 1
    counts = LabelCounts(labels, 3, Fixed(band=1)).count(predicted)
    assert counts.dtype == torch.int64 and np.array_equal(counts.numpy(), expected)


def test_labels_outside_the_classes_are_named():
    labels = torch.tensor([[[0, 7, 200, 255]]], dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"expected 0 to 3 or void 255, got \[7, 200\]"):
        LabelCounts(labels, 4, FIXED)


def test_figures_are_those_of_the_definitions():
    counts = np.random.default_rng(0).integers(0, 50, (2, 4, 4))
    counts[:, 2] = 0  # class 2 is predicted and never right
    matrix = counts.sum(0)
    classes = present_classes(counts)
    assert classes == [0, 1, 3]
    ious = []
    for c in classes:
        hits, union = matrix[c, c], matrix[c, :].sum() + matrix[:, c].sum() - matrix[c, c]
        ious.append(hits / union)
    got = figures(counts, classes)
    assert got.mean_iou == pytest.approx(np.mean(ious))
    assert got.accuracy == pytest.approx(np.trace(matrix) / matrix.sum())
    assert got.band_accuracy == pytest.approx(np.trace(counts[1]) / counts[1].sum())
    assert figures(counts, [3]).mean_iou == pytest.approx(ious[-1])
    counts[1] = 0
    assert math.isnan(figures(counts, classes).band_accuracy)


def test_ties_go_to_accuracy_then_to_cost():
    def total(matrix, vertices):
        return Total(np.array([np.zeros((3, 3), int), matrix]), vertices)

    half = [[1, 0, 1], [0, 0, 0], [0, 0, 0]]
    better = [[5, 0, 5], [0, 1, 0], [0, 0, 0]]  # class 1 does not count in the mean
    totals = {
        Candidate(1, 1, 1): total(half, 9),
        Candidate(2, 1, 1): total(half, 9),
        Candidate(3, 1, 1): total(half, 5),
        Candidate(4, 1, 1): total(better, 99),
        Candidate(5, 1, 1): total([[2, 0, 1], [0, 0, 0], [0, 0, 0]], 999),
    }
    assert [r.candidate.w1 for r in rank(totals, [0])] == [5, 4, 3, 1, 2]


def sample_of(count: int) -> Sample:
    samples = [planted(i)[0] for i in range(count)]
    return Sample(*(torch.cat(parts) for parts in zip(*samples, strict=True)))


@pytest.mark.unsanitized  # no kernels of its own
@pytest.mark.parametrize("normalization", ["symmetric", "after", "none"])
def test_every_candidate_is_its_own_dense_crf(device, request, normalization):
    """Whatever came before it, and on CUDA for a whole batch."""
    on_cuda = request.node.callspec.params["device"] != "cpu"
    sample = Sample(*(part.to(device) for part in sample_of(2 if on_cuda else 1)))
    fixed = Fixed(2.0, 2.5, 3, normalization)
    fields = CandidateFields(sample, fixed)
    for values in [(4, 20, 8), (1, 20, 8), (1, 9, 8), (4, 20, 8), (6, 9, 12)]:
        candidate = Candidate(*map(float, values))
        params = CRFParams(*candidate, 2.0, 2.5)
        q = dense_crf(sample.unary, sample.image, params, iterations=3, normalization=normalization)
        assert torch.equal(fields.labels(candidate), q.argmax(1).flatten(1))


def test_candidates_share_their_lattices(monkeypatch):
    built, sample = [], sample_of(1)
    lattice = PixelFeatures.lattice

    def counting(self, b, name):
        built.append(name)
        return lattice(self, b, name)

    monkeypatch.setattr(PixelFeatures, "lattice", counting)
    grid = Grid([1, 2, 3, 4], [10, 20], [5, 6, 7])
    done = list(CandidateCounts(sample, FIXED).count(grid.candidates()))
    assert [one.candidate for one in done] == grid.candidates()
    assert len([n for n in built if "gamma" in n]) == 1
    assert len([n for n in built if "alpha" in n]) == 2 * 3
    by_sigmas = {one.candidate[1:]: one.vertices for one in done}
    assert all(one.vertices == by_sigmas[one.candidate[1:]] for one in done)
    assert len({v[0] for v in by_sigmas.values()}) > 1


def test_samples_that_cannot_be_used():
    sample = sample_of(1)
    with pytest.raises(ValueError, match="unary: expected finite"):
        CandidateFields(sample._replace(unary=sample.unary * math.nan), FIXED)
    with pytest.raises(ValueError, match="image: expected shape"):
        CandidateFields(sample._replace(image=sample.image[..., 1:]), FIXED)
    with pytest.raises(ValueError, match="sample: expected one image on the CPU, got 2"):
        CandidateFields(sample_of(2), FIXED)


@pytest.mark.unsanitized
def test_sigmas_too_small_for_the_lattice(device):
    sample = Sample(*(part.to(device) for part in sample_of(1)))
    with pytest.raises(ValueError, match="sigma_alpha"):
        CandidateFields(sample, FIXED).labels(Candidate(1.0, 1e-7, 1.0))


def search_in_memory(grid: Grid, rounds: int, asked: list | None = None):
    """On four images; the planted parameters make their labels, pixel for pixel."""
    counters = [CandidateCounts(planted(i)[0], FIXED) for i in range(4)]

    def evaluate(number, candidates):
        if asked is not None:
            asked.append((number, list(candidates)))
        totals = {}
        for candidate in candidates:
            results = [next(iter(c.count([candidate]))) for c in counters]
            counts = sum(r.counts[0].numpy() for r in results)
            totals[candidate] = Total(counts, sum(r.vertices[0] for r in results))
        return totals

    return coarse_to_fine(evaluate, grid, rounds=rounds, classes=range(LABELS))


def test_planted_parameters_are_found(set_threads):
    """They are not on the coarse grid, and every other candidate labels some pixel otherwise."""
    set_threads(1)
    asked = []
    grid = Grid([1, 3, 5, 7], [5, 10, 15, 20], [4, 8, 12, 16])
    assert PLANTED not in grid.candidates()
    search = search_in_memory(grid, 2, asked)
    assert search.best.candidate == PLANTED
    assert search.best.figures == Figures(1, 1, 1)
    assert all(r.figures.mean_iou < 1 for r in search.ranked[1:])
    coarse = search.rounds[0].best
    assert coarse.figures.mean_iou < search.best.figures.mean_iou == 1
    before = sum(count_scores(planted(i)[0], FIXED)[0].numpy() for i in range(4))
    assert figures(before, range(LABELS)).mean_iou < coarse.figures.mean_iou - 0.3
    # no candidate is asked for twice
    everything = [c for _, candidates in asked for c in candidates]
    assert len(everything) == len(set(everything)) == len(search.ranked)
    assert [number for number, _ in asked] == [0, 1, 2]


def test_one_candidate_needs_no_finer_grid():
    asked = []
    search = search_in_memory(Grid([5], [12.5], [10]), 3, asked)
    assert len(asked) == 1 and len(search.rounds) == 4
    assert search.best.candidate == PLANTED
