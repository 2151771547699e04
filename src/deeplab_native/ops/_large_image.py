"""Labels of a large image on the CPU: its CRF over cells, its last update band by band.

All updates but the last are those of a CRF over cells of the image, as in `_dense_crf_scaled`. The
last one is done for the image's own pixels, a band of rows at a time, so that nothing of the size
labels x pixels is ever in memory:

    label(i) = argmax over l of -U_l(i) + w2 F2_l(i) + w1 F1_l(i)

U comes from the scores, enlarged to the band; F2, the message of the smoothness kernel between the
cells, is enlarged bilinearly; F1, that of the appearance kernel, is looked up in the lattice of the
cells at each pixel's own position and colour (csrc/ops/joint_labels.h), so that labels follow the
edges of the whole image (joint bilateral upsampling, Kopf et al. 2007).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from .. import _C
from .._malloc import give_back_free_memory
from .._native import num_threads, on_cuda
from ._cells import Cells
from ._mean_field_checks import NORMALIZATIONS, check_normalization, check_scale
from ._mean_field_terms import softmax
from ._mean_fields import mean_fields
from ._small_scores import (
    BAND_BYTES,
    SmallScores,
    bands,
    enlarge_rows,
    half_pixel_taps,
    points_of_cells,
    taps_of,
)
from .crf_params import CRFParams, Sigma
from .pairwise_features import KERNEL_NAMES

AUTO = "auto"
LARGE = 1 << 21  # pixels, as 1024 x 2048: the CRF of larger images is scaled where it is "auto"
LARGE_ON_CUDA = 1 << 25  # where memory is as large as it is fast
CELLS = 1 << 19  # of a scaled one
CELLS_ON_CUDA = 1 << 21

# A label whose probability is below this over their number in every cell takes no part in the CRF:
# another has more than 1 over their number there, and messages add w times such a share at most.
_LEAST_SHARE = 0.25


class LargeLabels(NamedTuple):
    """(H, W) uint8: by the scores alone, and after the CRF."""

    before: torch.Tensor
    after: torch.Tensor


def check_scale_or_auto(scale: float | str) -> float | str:
    """Raises TypeError or ValueError unless it is "auto" or a scale of `dense_crf`."""
    if isinstance(scale, str) and scale != AUTO:
        raise ValueError(f"scale: expected a number above 0 up to 1, or auto; got {scale!r}")
    return AUTO if isinstance(scale, str) else check_scale(scale)


def chosen_scale(scale: float | str, pixels: int, like: torch.Tensor) -> float:
    """The scale for an image of so many pixels; of "auto" 1 up to `LARGE`, else for `CELLS`.

    like: a tensor on the device that works.
    """
    if not isinstance(scale, str):
        return scale
    most, cells = (LARGE_ON_CUDA, CELLS_ON_CUDA) if on_cuda(like) else (LARGE, CELLS)
    return 1.0 if pixels <= most else round(math.sqrt(cells / pixels), 3)


def in_bands(scale: float | None, pixels: int, like: torch.Tensor) -> bool:
    """Whether `label_large_image` is for an image of so many pixels: not on CUDA.

    scale: the chosen one; None: there is no CRF.
    """
    return not on_cuda(like) and pixels > LARGE and scale != 1


def label_large_image(
    scores: SmallScores,
    image: torch.Tensor,
    params: CRFParams | None,
    *,
    iterations: int = 10,
    normalization: str = "symmetric",
    scale: float = 1.0,
    band: int | None = None,
) -> LargeLabels:
    """Labels of every pixel of image (3, H, W); `params` None leaves the CRF out.

    band: rows at a time, which changes no bit of the result; None chooses.
    """
    crf = None
    if params is not None and iterations > 0:
        crf = LargeCRF(scores, image, params, iterations, normalization, scale)
    size = image.shape[1], image.shape[2]
    before = torch.empty(size, dtype=torch.uint8)
    after = torch.empty(size, dtype=torch.uint8) if crf is not None else before
    for first, enlarged in bands(scores, size, band):
        rows = enlarged.shape[1]
        plane = rows * size[1]
        out = before[first : first + rows].data_ptr()
        _C.largest_labels_cpu(enlarged.data_ptr(), len(enlarged), plane, out, num_threads())
        if crf is not None:
            crf.label(enlarged, first, after[first : first + rows])
    return LargeLabels(before, after)


def marginals_of_large_images(
    scores: Sequence[SmallScores],
    images: torch.Tensor,
    params: CRFParams,
    *,
    iterations: int = 10,
    normalization: str = "symmetric",
    scale: float = 1.0,
) -> torch.Tensor:
    """Q (B, L, H, W) of images (B, 3, H, W): for who wants it whole."""
    size = images.shape[2], images.shape[3]
    found = []
    for one, image in zip(scores, images, strict=True):
        out = torch.empty(0)
        crf = None
        if iterations > 0:
            crf = LargeCRF(one, image, params, iterations, normalization, scale)
        for first, enlarged in bands(one, size):
            if first == 0:
                out = torch.empty(len(enlarged), *size)
            rows = slice(first, first + enlarged.shape[1])
            out[:, rows] = softmax(enlarged, 0) if crf is None else crf.marginals(enlarged, first)
        found.append(out)
    return torch.stack(found) if len(found) > 1 else found[0][None]


class LargeCRF:
    """The CRF of a large image's cells, and what it says to pixels."""

    def __init__(
        self,
        scores: SmallScores,
        image: torch.Tensor,
        params: CRFParams,
        iterations: int,
        normalization: str,
        scale: float,
    ) -> None:
        self._image = image  # which the message reads
        kind = check_normalization(normalization)
        _, height, width = image.shape
        cells = Cells((height, width), scale)
        unary = self._unary(scores, cells)
        shares = softmax(-unary[0], 0).amax(1)
        weights = float(params.w1), float(params.w2)
        least = _LEAST_SHARE / len(shares) if min(weights) >= 0 and sum(weights) <= 50 else 0
        self._labels = (shares >= least).nonzero().flatten().tolist()
        unary = unary[:, self._labels].contiguous()
        centres = [points_of_cells(n, m, 1) for n, m in zip(cells.pixels, cells.cells, strict=True)]
        places = torch.stack(torch.meshgrid(*centres, indexing="ij")).flatten(1).flip(0)
        means = torch.stack([cells.mean(c[None, None].float()).flatten() for c in image])
        sigma_beta = _each(params.sigma_beta, len(image))
        sigma_alpha = _each(params.sigma_alpha, 2)[::-1]  # of x and y, given as those of the axes
        sigma_gamma = _each(params.sigma_gamma, 2)[::-1]
        both = torch.cat([_over(places, sigma_alpha), _over(means, sigma_beta)]).float()
        features = [_over(places, sigma_gamma).float().T, both.T[None]]
        alone = kind == NORMALIZATIONS["none"]
        pixels = cells.pixels_in_each if alone else 1.0
        self._w1, self._w2 = weights
        compatibilities = [torch.tensor(w * pixels) for w in (self._w2, self._w1)]
        how = compatibilities, [kind] * 2, KERNEL_NAMES
        for _, field in mean_fields(unary, features, *how):
            _release_memory()  # in which the lattices were built: the CRF needs as much
            q = field.inference(iterations - 1, torch.empty_like(unary))
            smooth = field.filter(0, q, transposed=False)[0]
        del field, features
        _release_memory()  # kept for the next CRF: the most of what there is at once
        self._smooth = smooth.mul_(pixels).unflatten(1, cells.cells)
        self._taps = [
            half_pixel_taps(torch.arange(n, dtype=torch.float64), n, m)
            for n, m in zip(cells.pixels, cells.cells, strict=True)
        ]
        both = both.contiguous()
        self._message = _C.JointMessage(
            image.data_ptr(),
            str(image.dtype).removeprefix("torch."),
            image.stride(),
            (height, width),
            (sigma_alpha[0], sigma_alpha[1]),
            sigma_beta,
            both.data_ptr(),
            q.data_ptr(),
            both.shape[1],
            len(self._labels),
            cells.pixels_in_each,
            kind,
            num_threads(),
        )

    def _unary(self, scores: SmallScores, cells: Cells) -> torch.Tensor:
        """(1, L, h w): of the scores' means over the cells."""
        labels, height, width = scores.values.shape
        # so many points of a cell, along either axis, that no score is left out
        each = [max(1, math.ceil(n / m)) for n, m in zip((height, width), cells.cells, strict=True)]
        down, across = (
            taps_of(points_of_cells(n, m, k), scores, axis)
            for axis, (n, m, k) in enumerate(zip(cells.pixels, cells.cells, each, strict=True))
        )
        values = scores.values.contiguous()
        mean = torch.empty(labels, *cells.cells)
        points = cells.cells[1] * each[1]
        rows = max(1, BAND_BYTES // (4 * labels * points * each[0]))
        for first in range(0, cells.cells[0], rows):
            count = min(rows, cells.cells[0] - first)
            enlarged = torch.empty(labels, count * each[0], points)
            enlarge_rows(values, down, across, first * each[0], enlarged)
            mean[:, first : first + count] = functional.avg_pool2d(enlarged, each)
        if scores.energies is None:
            return -mean.log_softmax(0).flatten(1)[None]
        return scores.energies(mean).flatten(1)[None].contiguous()

    def label(self, enlarged: torch.Tensor, first: int, out: torch.Tensor) -> None:
        """Labels (rows, W) uint8 of a band, whose scores are changed."""
        self._add_smooth(enlarged, first)
        labels, rows, _ = enlarged.shape
        how = labels, self._labels, self._w1
        self._message.label(enlarged.data_ptr(), first, rows, *how, out.data_ptr(), num_threads())

    def marginals(self, enlarged: torch.Tensor, first: int) -> torch.Tensor:
        """Q (L, rows, W) of a band, in place of its scores."""
        self._add_smooth(enlarged, first)
        rows = enlarged.shape[1]
        how = self._labels, self._w1, num_threads()
        self._message.add(enlarged.data_ptr(), first, rows, *how)
        return softmax(enlarged, 0)

    def _add_smooth(self, enlarged: torch.Tensor, first: int) -> None:
        down, across = self._taps
        for plane, label in zip(self._smooth, self._labels, strict=True):
            enlarge_rows(plane[None], down, across, first, enlarged[label][None], factor=self._w2)


def _release_memory() -> None:
    """To the system, what is free: also what the kernels keep for their next call."""
    _C.release_memory()
    give_back_free_memory()


def _over(values: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    return values / torch.tensor(list(sigmas))[:, None]


def _each(sigma: Sigma, count: int) -> list[float]:
    values = sigma.tolist() if isinstance(sigma, torch.Tensor) else sigma
    return [float(s) for s in values] if isinstance(values, Sequence) else [float(values)] * count
