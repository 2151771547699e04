"""Many parameters of the CRF on the same images: what they have in common is built once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn import functional

from .._memory import check_memory, least_bytes_of_crf
from .._native import on_cuda
from ..ops._dense_crf_batch import features_of
from ..ops._mean_field_checks import (
    NORMALIZATIONS,
    check_compatibility,
    check_iterations,
    check_normalization,
    check_unary,
)
from ..ops._mean_field_cpu import CpuMeanField, check_values
from ..ops._mean_field_cuda import CudaMeanField
from ..ops.crf_params import CRFParams, sigmas_of
from ..ops.pairwise_features import KERNEL_NAMES, PixelFeatures, check_image
from .search import Candidate

if TYPE_CHECKING:
    from .. import _C

_BILATERAL = 1  # its place among the kernels


@dataclass(frozen=True)
class Fixed:
    """What all candidates have in common; raises TypeError or ValueError where it cannot be used.

    The paper searches with w2 = 3, sigma_gamma = 3 and 10 iterations (section 4.1). `band` is the
    distance in pixels up to which a pixel counts as close to a boundary, see `LabelCounts`; pixels
    labelled `void` are not counted.
    """

    w2: float = 3.0
    sigma_gamma: float = 3.0
    iterations: int = 10
    normalization: str = "symmetric"
    void: int = 255
    band: int = 5

    def __post_init__(self) -> None:
        self.params(Candidate(1.0, 1.0, 1.0))
        check_iterations(self.iterations)
        check_normalization(self.normalization)
        for name, value, least, most in (("void", self.void, 0, 255), ("band", self.band, 1, 500)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
            if not least <= value <= most:
                raise ValueError(f"{name}: expected {least} to {most}, got {value}")

    def params(self, candidate: Candidate) -> CRFParams:
        """The CRF's parameters with those of a candidate."""
        return CRFParams(*candidate, self.w2, self.sigma_gamma)


class Sample(NamedTuple):
    """Images of one size with their labels, on one device."""

    unary: torch.Tensor  # energies (B, L, H, W) float32
    image: torch.Tensor  # (B, 3, H, W) uint8
    labels: torch.Tensor  # (B, H, W) uint8, below L or void


class Counted(NamedTuple):
    """What one candidate makes of each image of a sample."""

    candidate: Candidate
    counts: torch.Tensor  # (B, 2, L, L) int64, see `LabelCounts`; on the CPU
    vertices: list[int]  # of each image's bilateral lattice


class CandidateFields:
    """The mean field of one sample with one candidate after another.

    The unary and the Gaussian lattice are shared by all of them, a bilateral lattice by those of
    its sigmas that come one after the other. On CUDA so are the normalisations; on the CPU they are
    computed anew for each candidate, which is two filters of one channel. Raises TypeError,
    ValueError or MemoryError before any lattice is built.
    """

    def __init__(self, sample: Sample, fixed: Fixed) -> None:
        unary, self._image, _ = sample
        check_unary(unary, ndim=4, layout="(B, L, H, W)")
        check_image(self._image, unary)
        if not on_cuda(unary) and unary.shape[0] != 1:
            raise ValueError(f"sample: expected one image on the CPU, got {unary.shape[0]}")
        self._unary, self._fixed = unary.detach().flatten(2).contiguous(), fixed
        if not on_cuda(unary):
            # the energies; of each bilateral kernel its lattice looks at the image
            self._unary = check_values(self._unary, [], [], ())
            _, labels, points = self._unary.shape
            size = least_bytes_of_crf(labels, points, [2, 5])
            check_memory(f"unary: a CRF of {labels} labels and {points} points", size)
        self._q = torch.empty_like(self._unary)
        self._field: CpuMeanField | CudaMeanField | None = None
        self._sigmas: tuple[float, float] | None = None
        self._gaussian: _C.Lattice | None = None

    def labels(self, candidate: Candidate) -> torch.Tensor:
        """The most probable label of each pixel, (B, H W) int64: those of `dense_crf`.

        Raises ValueError where the lattice of the candidate's sigmas would be out of range.
        """
        w1 = check_compatibility("w1", candidate.w1, self._unary)
        sigmas = candidate.sigma_alpha, candidate.sigma_beta
        if self._field is None:
            self._field = self._new_field(sigmas, w1)
        elif sigmas != self._sigmas:
            how = NORMALIZATIONS[self._fixed.normalization]
            self._field.set_kernel(_BILATERAL, self._kernels(sigmas)[1], w1, how)
        else:
            self._field.set_compatibility(_BILATERAL, w1)
        self._sigmas = sigmas
        self._field.inference(self._fixed.iterations, self._q)
        # all is NaN where the lattice could not hold an image, which on the CPU is an error before
        if on_cuda(self._unary) and self._q[:, 0].isnan().any():
            raise ValueError(
                f"sigma_alpha {sigmas[0]:g} and sigma_beta {sigmas[1]:g}: too small for the "
                "lattice (give larger ones)"
            )
        # as argmax, but five times as fast on the CPU
        return self._q.max(1).indices

    def vertices(self) -> list[int]:
        """Of each image's bilateral lattice, of the last candidate; waits for a CUDA device."""
        assert self._field is not None
        return [counts[_BILATERAL] for counts in self._field.num_vertices()]

    def _new_field(
        self, sigmas: tuple[float, float], w1: torch.Tensor
    ) -> CpuMeanField | CudaMeanField:
        kernels, how = self._kernels(sigmas), [NORMALIZATIONS[self._fixed.normalization]] * 2
        weights = [check_compatibility("w2", self._fixed.w2, self._unary), w1]
        if on_cuda(self._unary):
            return CudaMeanField(self._unary, kernels, weights, how)
        return CpuMeanField(self._unary, kernels, weights, how, self._image.shape[3])

    def _kernels(self, sigmas: tuple[float, float]) -> list[Any]:
        """Lattices on the CPU, features on CUDA; the Gaussian one is built once."""
        params = CRFParams(0, *sigmas, 0, self._fixed.sigma_gamma)
        features = features_of(self._image, sigmas_of(params, self._image.shape))
        if on_cuda(self._unary):
            return features
        names = [name for name, _ in KERNEL_NAMES]
        gaussian, bilateral = features
        assert isinstance(gaussian, PixelFeatures) and isinstance(bilateral, PixelFeatures)
        if self._gaussian is None:
            self._gaussian = gaussian.lattice(0, names[0])
        return [self._gaussian, bilateral.lattice(0, names[1])]


class LabelCounts:
    """Confusion matrices of label maps against the truth, apart for the band along boundaries.

    A pixel is in the band where the square of side 2 band + 1 around it holds another label than
    its own, void too. So it is the trimap of PASCAL VOC (void, dilated by this square), and is
    also defined where no void was drawn between the classes.
    """

    def __init__(self, labels: torch.Tensor, num_labels: int, fixed: Fixed) -> None:
        self._size = (labels.shape[0], 2, num_labels, num_labels)
        labels = labels.long()
        known = labels != fixed.void
        outside = known & (labels >= num_labels)
        if outside.any():
            raise ValueError(
                f"labels: expected 0 to {num_labels - 1} or void {fixed.void}, "
                f"got {labels[outside].unique().tolist()}"
            )
        band = near_boundary(labels, fixed.band)
        image = torch.arange(labels.shape[0], device=labels.device)[:, None, None]
        row = (image * 2 + band) * num_labels + labels
        self._bins = labels.shape[0] * 2 * num_labels**2
        # the row of the matrices that a pixel counts in; those of void count behind all
        self._rows = torch.where(known, row * num_labels, self._bins).flatten(1)

    def count(self, predicted: torch.Tensor) -> torch.Tensor:
        """(B, 2, L, L) int64: [outside the band, within it], the label, the prediction.

        predicted: (B, H W) int64 below L.
        """
        bins = torch.bincount((self._rows + predicted).flatten(), minlength=self._bins)
        return bins[: self._bins].view(self._size)


def near_boundary(labels: torch.Tensor, distance: int) -> torch.Tensor:
    """Where another label is at most `distance` rows and columns away: (B, H, W) bool."""
    values = labels[:, None].to(torch.float32)
    # one filter for the largest and the smallest label, down and then across
    extremes = torch.cat((values, -values), 1)
    side = 2 * distance + 1
    extremes = functional.max_pool2d(extremes, (side, 1), 1, (distance, 0))
    extremes = functional.max_pool2d(extremes, (1, side), 1, (0, distance))
    return extremes[:, 0] != -extremes[:, 1]


class CandidateCounts:
    """Counts of many candidates on one sample, whose energies and Gaussian lattice it keeps."""

    def __init__(self, sample: Sample, fixed: Fixed) -> None:
        self._truth = LabelCounts(sample.labels, sample.unary.shape[1], fixed)
        self._fields = CandidateFields(sample, fixed)

    def count(self, candidates: Iterable[Candidate]) -> Iterator[Counted]:
        """Of each; give those of the same sigmas one after the other."""
        vertices: list[int] = []
        last = None
        for candidate in candidates:
            counts = self._truth.count(self._fields.labels(candidate)).cpu()
            if candidate[1:] != last:  # on CUDA to ask is to wait
                vertices, last = self._fields.vertices(), candidate[1:]
            yield Counted(candidate, counts, vertices)


def count_scores(sample: Sample, fixed: Fixed) -> torch.Tensor:
    """(B, 2, L, L) of the scores alone, before any CRF."""
    truth = LabelCounts(sample.labels, sample.unary.shape[1], fixed)
    return truth.count(sample.unary.flatten(2).min(1).indices).cpu()
