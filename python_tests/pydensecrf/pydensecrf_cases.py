"""Problems for pydensecrf's interface: recorded ones, and drawn ones; for ours and for theirs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("hypothesis")
from hypothesis import strategies as st

NORMALIZATIONS = {
    "none": "NO_NORMALIZATION",
    "before": "NORMALIZE_BEFORE",
    "after": "NORMALIZE_AFTER",
    "symmetric": "NORMALIZE_SYMMETRIC",
}
# Eleven drawn images are part of the tests; photographs may be put beside them.
FOLDERS = [Path(__file__).parent / "recorded"]
if "DEEPLAB_NATIVE_CRF_REFERENCE" in os.environ:
    FOLDERS.append(Path(os.environ["DEEPLAB_NATIVE_CRF_REFERENCE"]))
RECORDED = [
    pytest.param(folder, case, id=Path(case["file"]).stem)
    for folder in FOLDERS
    for case in json.loads((folder / "index.json").read_text())
]


def recorded_crf(dcrf: Any, case: dict, image: np.ndarray, unary: np.ndarray) -> Any:
    """The CRF of a recorded case, made with a module that has pydensecrf.densecrf's interface."""
    height, width = image.shape[:2]
    crf = dcrf.DenseCRF2D(width, height, len(unary))
    crf.setUnaryEnergy(unary)
    for k in case["gaussian"] + case["bilateral"]:
        compat = k["compat"]
        compat = np.asarray(compat, np.float32) if isinstance(compat, list) else compat
        colours = (k["srgb"], image) if "srgb" in k else ()
        add = crf.addPairwiseBilateral if colours else crf.addPairwiseGaussian
        add(k["sxy"], *colours, compat, normalization=getattr(dcrf, k["norm"]))
    return crf


class Problem(NamedTuple):
    """unary (L, N); kernels of (features (d, N), compat, a key of NORMALIZATIONS)."""

    unary: np.ndarray
    kernels: list[tuple[np.ndarray, Any, str]]
    iterations: int

    def crf(self, dcrf: Any) -> Any:
        labels, points = self.unary.shape
        crf = dcrf.DenseCRF(points, labels)
        crf.setUnaryEnergy(self.unary)
        for features, compat, normalization in self.kernels:
            how = getattr(dcrf, NORMALIZATIONS[normalization])
            crf.addPairwiseEnergy(features, compat, normalization=how)
        return crf


def problem(
    labels: int, points: int, dims: list[int], kind: int, how: str, seed: int, iterations: int = 4
) -> Problem:
    """Random energies, clustered features and a number, vector or matrix for each kernel."""
    random = np.random.default_rng(seed)
    unary = random.exponential(2, (labels, points)).astype(np.float32)
    kernels = []
    for d in dims:
        centres = random.normal(0, 2, (d, 3))[:, random.integers(0, 3, points)]
        features = (centres + random.normal(0, 0.3, (d, points))).astype(np.float32)
        compat: Any = float(random.uniform(0, 4))
        if kind:
            compat = random.normal(0, 1, (labels,) * kind).astype(np.float32)
        kernels.append((features, compat, how))
    return Problem(unary, kernels, iterations)


# arguments of problem(): what hypothesis prints stays short
problems = st.fixed_dictionaries(
    {
        "labels": st.integers(1, 6),
        "points": st.integers(1, 60),
        "dims": st.lists(st.integers(1, 6), max_size=2),
        "kind": st.integers(0, 2),
        "how": st.sampled_from(list(NORMALIZATIONS)),
        "seed": st.integers(0, 2**32 - 1),
        "iterations": st.integers(0, 5),
    }
)
