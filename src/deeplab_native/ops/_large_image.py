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
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch.nn import functional

from .. import _C
from .._native import num_threads, on_cuda
from ._cells import Cells
from ._mean_field_checks import NORMALIZATIONS, check_normalization, check_scale
from .crf_params import CRFParams
from .mean_field import mean_fields
from .pairwise_features import KERNEL_NAMES

AUTO = "auto"
LARGE = 1 << 21  # pixels, as 1024 x 2048: the CRF of larger images is scaled where it is "auto"
LARGE_ON_CUDA = 1 << 25  # where memory is as large as it is fast
CELLS = 1 << 19  # of a scaled one
CELLS_ON_CUDA = 1 << 21

_BAND_BYTES = 1 << 25  # of scores that are enlarged at once
# A label whose probability is below this over their number in every cell takes no part in the CRF.
# Another has at least 1 over their number there, and messages add less than w times what they carry.
_LEAST_SHARE = 0.25

Taps = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # int32 low and high, float32 fraction
Energies = Callable[[torch.Tensor], torch.Tensor]


class SmallScores(NamedTuple):
    """Scores (L, h, w) float32 of an image, to be enlarged bilinearly.

    grid: height and width that they are enlarged to; the image is its first rows and columns.
    aligned: whether corners lie on corners (`align_corners`).
    energies: of enlarged scores (L, rows, columns); None: -log softmax.
    """

    values: torch.Tensor
    grid: tuple[int, int]
    aligned: bool
    energies: Energies | None = None


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


def in_bands(params: CRFParams | None, scale: float, pixels: int, like: torch.Tensor) -> bool:
    """Whether `label_large_image` is for an image of so many pixels, with the chosen scale.

    Not on CUDA, and not with compatibilities that are no numbers.
    """
    if on_cuda(like) or pixels <= LARGE:
        return False
    if params is None:
        return True
    return scale < 1 and all(isinstance(w, int | float) for w in (params.w1, params.w2))


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
    q = torch.empty(len(images), len(scores[0].values), *size)
    for one, image, out in zip(scores, images, q, strict=True):
        crf = None
        if iterations > 0:
            crf = LargeCRF(one, image, params, iterations, normalization, scale)
        for first, enlarged in bands(one, size):
            rows = slice(first, first + enlarged.shape[1])
            out[:, rows] = enlarged.softmax(0) if crf is None else crf.marginals(enlarged, first)
    return q


def bands(
    scores: SmallScores, size: tuple[int, int], band: int | None = None
) -> Iterator[tuple[int, torch.Tensor]]:
    """(first row, -U up to a number for each pixel (L, rows, W)) of an image of this size."""
    height, width = size
    labels = len(scores.values)
    rows = band or max(1, _BAND_BYTES // (4 * labels * width))
    values = scores.values.contiguous()
    pixels = [torch.arange(n, dtype=torch.float64) for n in size]
    down, across = (_taps(p, scores, axis) for axis, p in enumerate(pixels))
    memory = torch.empty(labels * min(rows, height) * width)
    for first in range(0, height, rows):
        count = min(rows, height - first)
        enlarged = memory[: labels * count * width].view(labels, count, width)
        _enlarge(values, down, across, first, enlarged)
        if scores.energies is not None:
            enlarged = scores.energies(enlarged).neg_().contiguous()
        yield first, enlarged


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
        shares = (-unary[0]).softmax(0).amax(1)
        weights = float(params.w1), float(params.w2)
        least = _LEAST_SHARE / len(shares) if min(weights) >= 0 and sum(weights) <= 50 else 0
        self._labels = (shares >= least).nonzero().flatten().tolist()
        unary = unary[:, self._labels].contiguous()
        centres = [_centres(n, m, 1) for n, m in zip(cells.pixels, cells.cells, strict=True)]
        places = torch.stack(torch.meshgrid(*centres, indexing="ij")).flatten(1).flip(0)
        means = torch.stack([cells.mean(c[None, None].float()).flatten() for c in image])
        sigma_beta = _each(params.sigma_beta, len(image))
        sigma_alpha = _each(params.sigma_alpha, 2)[::-1]  # of x and y, as places are
        sigma_gamma = _each(params.sigma_gamma, 2)[::-1]
        both = torch.cat([_over(places, sigma_alpha), _over(means, sigma_beta)]).float()
        features = [_over(places, sigma_gamma).float().T, both.T[None]]
        alone = kind == NORMALIZATIONS["none"]
        pixels = cells.pixels_in_each if alone else 1.0
        self._w1, self._w2 = weights
        compatibilities = [torch.tensor(w * pixels) for w in (self._w2, self._w1)]
        how = compatibilities, [kind] * 2, KERNEL_NAMES
        for _, field in mean_fields(unary, features, *how):
            q = field.inference(iterations - 1, torch.empty_like(unary))
            smooth = field.filter(0, q, transposed=False)[0]
        del field, features
        _C.release_memory()  # kept for the next CRF: the most of what there is at once
        self._smooth = smooth.mul_(pixels).unflatten(1, cells.cells)
        self._taps = [
            _half_pixel(torch.arange(n, dtype=torch.float64), n, m)
            for n, m in zip(cells.pixels, cells.cells, strict=True)
        ]
        both = both.contiguous()
        self._message = _C.JointMessage(
            image.data_ptr(),
            str(image.dtype).removeprefix("torch."),
            image.stride(),
            (height, width),
            tuple(sigma_alpha),
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
            _taps(_centres(n, m, k), scores, axis)
            for axis, (n, m, k) in enumerate(zip(cells.pixels, cells.cells, each, strict=True))
        )
        values = scores.values.contiguous()
        mean = torch.empty(labels, *cells.cells)
        points = cells.cells[1] * each[1]
        rows = max(1, _BAND_BYTES // (4 * labels * points * each[0]))
        for first in range(0, cells.cells[0], rows):
            count = min(rows, cells.cells[0] - first)
            enlarged = torch.empty(labels, count * each[0], points)
            _enlarge(values, down, across, first * each[0], enlarged)
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
        return torch.softmax(enlarged, 0)

    def _add_smooth(self, enlarged: torch.Tensor, first: int) -> None:
        for plane, label in zip(self._smooth, self._labels, strict=True):
            own = enlarged[label][None]
            _enlarge(plane[None], *self._taps, first, own, factor=self._w2)


def _enlarge(
    values: torch.Tensor,
    down: Taps,
    across: Taps,
    first: int,
    out: torch.Tensor,
    factor: float | None = None,
) -> None:
    """Rows from `first` on of values (L, h, w) to out (L, rows, W); with a factor, added to it."""
    labels, rows, width = out.shape
    _C.enlarge_rows_cpu(
        values.data_ptr(),
        labels,
        tuple(values.shape[1:]),
        [t.data_ptr() for t in down],
        [t.data_ptr() for t in across],
        first,
        rows,
        width,
        factor is not None,
        1.0 if factor is None else factor,
        out.data_ptr(),
        num_threads(),
    )


def _centres(pixels: int, cells: int, each: int) -> torch.Tensor:
    """(cells * each,) float64: `each` points of every cell, evenly, in pixels; 1 is its centre."""
    cell = torch.arange(cells)
    first, end = cell * pixels // cells, -(-(cell + 1) * pixels // cells)
    share = (torch.arange(each, dtype=torch.float64) + 0.5) / each
    return (first[:, None] + (end - first)[:, None] * share - 0.5).flatten()


def _taps(pixel: torch.Tensor, scores: SmallScores, axis: int) -> Taps:
    full, count = scores.grid[axis], scores.values.shape[1 + axis]
    if not scores.aligned:
        return _half_pixel(pixel, full, count)
    return _split(pixel * ((count - 1) / (full - 1) if full > 1 else 0), count)


def _half_pixel(pixel: torch.Tensor, full: int, count: int) -> Taps:
    """As `interpolate` has them without aligned corners."""
    return _split(((pixel + 0.5) * (count / full) - 0.5).clamp_min(0), count)


def _split(position: torch.Tensor, count: int) -> Taps:
    low = position.floor().clamp(0, count - 1)
    high = (low + 1).clamp_max(count - 1)
    return low.int(), high.int(), (position - low).clamp(0, 1).float()


def _over(values: torch.Tensor, sigmas: Sequence[float]) -> torch.Tensor:
    return values / torch.tensor(list(sigmas))[:, None]


def _each(sigma: float | Sequence[float], count: int) -> list[float]:
    return [float(s) for s in sigma] if isinstance(sigma, Sequence) else [float(sigma)] * count
