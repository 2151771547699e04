"""Methods of the drop-in's objects in any order, beside a model of each object."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from deeplab_native.pydensecrf import densecrf as dcrf
from deeplab_native.pydensecrf import eigen
from python_tests.ops import reference_crf as slow

from . import progress
from .dropin import HOW, TOLERANCE, pixel_features

SEEDS = st.integers(0, 99)
SMALL = st.integers(1, 4)
WEIGHTS = st.sampled_from([3, 0.5, -1.0, np.float32(2)])
NORMALIZATIONS = st.sampled_from([0, 1, 2, 3])


class Model:
    """A CRF and what it should be: its size, energies and kernels."""

    def __init__(self, crf: Any, labels: int, size: tuple[int, ...]) -> None:
        self.crf, self.labels, self.size = crf, labels, size
        self.points = int(np.prod(size))
        self.unary: np.ndarray | None = None
        self.kernels: list[Any] = []

    def field(self) -> slow.MeanField:
        unary = self.unary
        if unary is None:
            unary = np.zeros((self.labels, self.points))
        return slow.MeanField(unary, self.kernels)

    def __repr__(self) -> str:
        return f"{type(self.crf).__name__} of {self.labels} labels and {self.size} points"


def _wrong_calls(model: Model) -> list[Callable[[], Any]]:
    crf, labels, n = model.crf, model.labels, model.points
    floats = np.ones((labels, n), np.float32)
    calls = [
        lambda: crf.setUnaryEnergy(floats[:, :-1]),
        lambda: crf.setUnaryEnergy(floats * np.nan),
        lambda: crf.setUnaryEnergy(floats.tolist()),
        lambda: crf.setUnaryEnergy(floats.astype(np.int32)),
        lambda: crf.setUnary(floats),
        lambda: crf.inference(-1),
        lambda: crf.inference("5"),
        lambda: crf.inference(2**31),
        lambda: crf.addPairwiseEnergy(np.ones((2, n + 1), np.float32), 3),
        lambda: crf.addPairwiseEnergy(np.full((2, n), np.inf, np.float32), 3),
        lambda: crf.addPairwiseEnergy(np.full((2, n), 1e9, np.float32), 3),
        lambda: crf.addPairwiseEnergy(np.ones((2, n), np.float32), np.ones(labels + 1, np.float32)),
        lambda: crf.addPairwiseEnergy(np.ones((2, n), np.float32), 3, normalization=4),
        lambda: crf.klDivergence(floats),
        lambda: crf.klDivergence(eigen.matrixXf(np.ones((labels + 1, n), np.float32))),
        lambda: crf.stepInference(floats, floats, floats),
        lambda: pickle.dumps(crf),
        lambda: copy.copy(crf),
        lambda: copy.deepcopy(crf),
    ]
    if isinstance(crf, dcrf.DenseCRF2D):
        h, w = model.size
        calls += [
            lambda: crf.addPairwiseGaussian(0, 3),
            lambda: crf.addPairwiseGaussian(1e-20, 3),
            lambda: crf.addPairwiseBilateral(3, 3, np.zeros((h, w, 4), np.uint8), 3),
            lambda: crf.addPairwiseBilateral(3, 3, np.zeros((h, w, 3)), 3),
        ]
    return calls


class Sequences(RuleBasedStateMachine):
    """Each result is compared with the model's, and stays as it was whatever comes after."""

    crfs = Bundle("crfs")

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[Any, bytes]] = []
        self.steps: list[Any] = []

    def teardown(self) -> None:
        dcrf.set_num_threads(None)

    def _note(self, *what: Any) -> None:
        self.steps.append(what)
        progress.now("pydensecrf.sequences", *self.steps)

    @rule(target=crfs, labels=SMALL, w=SMALL, h=SMALL)
    def image(self, labels: int, w: int, h: int) -> Model:
        self._note("DenseCRF2D", w, h, labels)
        return Model(dcrf.DenseCRF2D(w, h, labels), labels, (h, w))

    @rule(target=crfs, labels=SMALL, n=st.integers(1, 9))
    def points(self, labels: int, n: int) -> Model:
        self._note("DenseCRF", n, labels)
        return Model(dcrf.DenseCRF(n, labels), labels, (n,))

    @rule(threads=st.sampled_from([None, 1, 2, 3]))
    def threads(self, threads: int | None) -> None:
        self._note("set_num_threads", threads)
        dcrf.set_num_threads(threads)

    @rule(model=crfs, seed=SEEDS, how=st.sampled_from(["setUnaryEnergy", "setUnary", "product"]))
    def unary(self, model: Model, seed: int, how: str) -> None:
        self._note(how, seed)
        random = np.random.default_rng(seed)
        u = random.exponential(2, (model.labels, model.points)).astype(np.float32)
        if how == "setUnaryEnergy":
            model.crf.setUnaryEnergy(u)
        elif how == "setUnary":
            model.crf.setUnary(dcrf.ConstUnary(u))
        else:
            model.crf.setUnaryEnergy(np.eye(model.labels, dtype=np.float32), u)
        model.unary = u.astype(float)
        u.fill(np.nan)  # it was copied

    @rule(model=crfs, seed=SEEDS, d=SMALL, weight=WEIGHTS, how=NORMALIZATIONS)
    def energy(self, model: Model, seed: int, d: int, weight: Any, how: int) -> None:
        self._note("addPairwiseEnergy", d, seed, weight, how)
        if len(model.kernels) > 2:
            return
        features = np.random.default_rng(seed).normal(0, 2, (d, model.points)).astype(np.float32)
        model.crf.addPairwiseEnergy(features, weight, normalization=how)
        model.kernels.append((features.T.copy(), float(weight), HOW[how]))
        features.fill(np.nan)

    @rule(model=crfs, seed=SEEDS, weight=WEIGHTS, how=NORMALIZATIONS, colours=st.booleans())
    def pairwise(self, model: Model, seed: int, weight: Any, how: int, colours: bool) -> None:
        self._note("pairwise", colours, seed, weight, how)
        if len(model.size) == 1 or len(model.kernels) > 2:
            return
        h, w = model.size
        if colours:
            rgb = np.random.default_rng(seed).integers(0, 256, (h, w, 3)).astype(np.uint8)
            model.crf.addPairwiseBilateral((2, 3), 20, rgb, weight, normalization=how)
            features = pixel_features(w, h, (2, 3), 20, rgb)
            rgb.fill(0)
        else:
            model.crf.addPairwiseGaussian(2, weight, normalization=how)
            features = pixel_features(w, h, 2)
        model.kernels.append((features, float(weight), HOW[how]))

    @rule(model=crfs, iterations=st.integers(0, 3))
    def inference(self, model: Model, iterations: int) -> None:
        self._note("inference", iterations)
        q = model.crf.inference(iterations)
        assert type(q) is eigen.MatrixXf
        field = model.field()
        expected = field.inference(iterations)
        np.testing.assert_allclose(np.array(q), expected, rtol=0, atol=2 * TOLERANCE)
        kl = model.crf.klDivergence(q)
        np.testing.assert_allclose(kl, field.kl_divergence(expected), rtol=1e-3, atol=0.02)
        self.kept.append((q, np.array(q).tobytes()))

    @rule(model=crfs, iterations=st.integers(0, 3))
    def stepwise(self, model: Model, iterations: int) -> None:
        self._note("startInference", iterations)
        q, *scratch = model.crf.startInference()
        field = model.field()
        expected = np.zeros((model.labels, model.points)) if model.unary is None else field.start()
        for _ in range(iterations):
            model.crf.stepInference(q, *scratch)
            expected = field.step(expected)
        np.testing.assert_allclose(np.array(q), expected, rtol=0, atol=4 * TOLERANCE)
        self.kept.append((q, np.array(q).tobytes()))

    @rule(model=crfs, data=st.data())
    def wrong(self, model: Model, data: st.DataObject) -> None:
        calls = _wrong_calls(model)
        i = data.draw(st.integers(0, len(calls) - 1))
        self._note("wrong", i)
        progress.refused()
        try:
            calls[i]()
        except (TypeError, ValueError, OverflowError):
            return
        raise AssertionError(f"wrong call {i} was taken")

    @rule(model=crfs, iterations=st.integers(0, 2))
    def at_once(self, model: Model, iterations: int) -> None:
        self._note("threads", iterations)
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda _: np.array(model.crf.inference(iterations)), range(3)))
        assert len({q.tobytes() for q in found}) == 1

    @rule(target=crfs, gone=consumes(crfs), other=crfs)
    def delete(self, gone: Model, other: Model) -> Any:
        self._note("del")
        if gone is other:
            return other
        gone.crf = None
        gc.collect(0)
        q = np.array(other.crf.inference(1))
        np.testing.assert_allclose(q, other.field().inference(1), rtol=0, atol=2 * TOLERANCE)
        return multiple()

    @invariant()
    def results_stay(self) -> None:
        for q, bits in self.kept[-4:]:
            assert np.array(q).tobytes() == bits, "a result changed after it was given"
