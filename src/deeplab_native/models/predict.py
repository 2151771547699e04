"""From an image to labels: net, bilinear interpolation, softmax, CRF (DeepLab v2, Figure 1)."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from .. import _variants
from .._integers import integer
from .._native import check_no_transform, convolutions_use_tf32, products_use_tf32
from ..crf import CRFParams
from ..ops._large_image import check_scale_or_auto
from ..ops._mean_field_checks import check_iterations, check_normalization
from ._cuda_graphs import Tensors, recorder_of
from ._inference import check_precision, forget, ready
from ._labelling import How, Labelled, label
from ._recordings import Recordings
from .preprocessing import Picture, Preprocessing, as_rgb_batch
from .tiles import Progress, Tiling, check_tiling

KEEP = 4  # recordings of a net
# of nets that `predict` was called with `graph` for, by precision
_recordings: weakref.WeakKeyDictionary[nn.Module, dict[str, Recordings]] = (
    weakref.WeakKeyDictionary()
)
_lock = threading.Lock()


class Prediction(NamedTuple):
    """What `predict` gives; with a batch of images every tensor has B in front.

    Attributes:
        labels: (H, W) int64, the class of largest probability.
        probabilities: (L, H, W) float32, after the CRF if there is one; they sum to 1 over L.
        scores: (L, H, W) float32, the net's scores at full resolution, before softmax and CRF.
    """

    labels: torch.Tensor
    probabilities: torch.Tensor
    scores: torch.Tensor


def predict(
    model: nn.Module,
    image: Picture,
    *,
    crf: CRFParams | None = None,
    iterations: int = 10,
    normalization: str = "symmetric",
    scale: float | str = 1.0,
    tile: int | Sequence[int] | None = None,
    overlap: int | Sequence[int] | None = None,
    progress: Progress | None = None,
    longest_side: int | None = None,
    precision: str = "auto",
    graph: bool = False,
) -> Prediction:
    """Labels every pixel of an image, by the authors' test protocol but for the padded size.

    The image is padded at the bottom and the right with the mean to a height and width of 8 m + 1,
    the scores are interpolated by 8 with the corners aligned, and the padding is cut off. Only
    then, on the image's own pixels, come the softmax and the CRF, whose unary energies are
    -log softmax (section 3.3).

    The authors pad every image to 513 x 513 instead. Here m is the smallest that holds the image:
    larger images work, and smaller ones cost no more than their own pixels. In both the pixels of
    the score map lie at 0, 8, 16, ... of the image. Only scores whose field of view reaches
    beyond the right or bottom border differ: there every layer of the authors' net sees features
    of the mean colour, up to 513, and here the zeros that it pads its map with.

    8 is the model's `output_stride` (8 where it has none), which `set_output_stride` changes.

    With `tile`, the net sees an image in overlapping tiles of that size, as the paper's nets saw
    those of Cityscapes, and needs the memory of one; `models.tiles` says how they are blended.
    What follows is done on the whole image: the result and the unary energies are full-size
    tensors, 4 B L H W bytes each. Where a pixel's field of view does not reach into the zeros
    around a tile, its scores are those of the whole image.

    Args:
        model: a net of `create_model`, or any module with `preprocessing` and `num_classes` that
            maps (B, 3, H, W) to scores (B, L, h, w). It runs in evaluation mode, on the device of
            its first parameter (without any: on the CPU, in float32), and is left as it was.
        image: the path of a photograph, any that Pillow reads, which is turned upright by its EXIF
            orientation as the commands do; or RGB, 0..255: array (H, W, 3) uint8, PIL image of mode
            "RGB", or tensor (3, H, W) or (B, 3, H, W) uint8. A PIL image is taken as it is stored,
            with a warning where its EXIF orientation says that it is to be turned
            (`PIL.ImageOps.exif_transpose`).
        crf: parameters of the fully connected CRF, or None to leave it out.
        iterations: of mean field.
        normalization: of the CRF's messages, see `dense_crf`.
        scale: below 1, the CRF at this fraction of the resolution, see `dense_crf`. "auto" is 1 for
            images of up to 2^21 pixels (1024 x 2048), on CUDA 2^25; of larger ones the fraction
            that leaves 2^19 cells (2^21), the last iteration reaching all pixels band by band.
        tile: height and width of tiles in pixels, 8 m + 1: one integer or (vertical, horizontal);
            513 is the authors' size. None runs the net on the whole image.
        overlap: of neighbouring tiles in pixels, a multiple of 8: one integer or two; None is
            about a quarter of the tile. A third of it, on each side, is not used.
        progress: of tiles, called as progress(done, total) before the first and after each.
        longest_side: where the image has more pixels in height or width, the net sees it reduced
            to this (bilinear, antialiased), which objects larger than those it was trained on need.
            The scores are interpolated to the image, where the CRF runs. None leaves the image.
        precision: of the net; the interpolation and the CRF are always float32.
            "auto": on CUDA from compute capability 8.0 on, a float32 net of `create_model` in
            bfloat16 and channels_last: of the embedded net, in bfloat16 on a CPU, on 40
            photographs, 0.36 % of the labels became others (at most 2.3 % of one's), 0.19 %
            (0.9 %) after the CRF, nearly all within 5 pixels of a border between labels.
            Everything else as "model".
            "model": that of the model's first parameter.
            "float32", "bfloat16", "float16": this one; other modules than nets of `create_model`
            run under autocast.
        graph: on CUDA, replay everything as one CUDA graph once an image of this size has come a
            second time; the last 4 sizes of each net are kept. `Predictor` says more. On the CPU,
            and where a graph cannot hold what the net does, it changes nothing.

    Returns:
        Prediction on the model's device; its tensors are inference tensors (clone them for
        autograd). On CUDA the call returns before the device has finished, and nothing in it waits
        for the device but the first call of a net, an image on another GPU, and recording a graph.

    Nets of `create_model` run as a copy, in which frozen batch normalisation is folded into the
    convolutions, so ResNet-101's weights are there twice. It is kept as long as the net, and made
    again when the net's weights, layers or settings change, which is looked at in every call. What
    cannot be seen is weights written through `.data`, through NumPy or by replaying a CUDA graph:
    call `refresh(model)` after that. A hook on any module of the net, or a module of another
    package, is a reason to run the net itself.

    Raises:
        TypeError: `model`, `image` or another argument has another type, or the image another
            dtype.
        ValueError: the image or the model's score map has another shape; `iterations`,
            `normalization` or `scale` is not one `dense_crf` takes; `tile` or `overlap` does not
            fit the output stride, or `overlap` or `progress` comes without it; `longest_side` is
            not positive, or comes with a tile; `precision` is none of those above; `graph` comes
            with a tile; the file is no photograph.
        OSError: the file cannot be read.
    """
    how = check_arguments(
        model,
        crf=crf,
        iterations=iterations,
        normalization=normalization,
        scale=scale,
        longest_side=longest_side,
        precision=precision,
    )
    if tile is not None:
        for name, value, without in (("longest_side", longest_side, None), ("graph", graph, False)):
            if value not in (None, False):
                raise ValueError(f"{name}: expected {without} with a tile, got {value}")
    tiling = check_tiling(tile, overlap, progress, how.stride)
    recordings = None
    if graph:
        with _lock:
            kept = _recordings.setdefault(model, {})
            recordings = kept.setdefault(precision, Recordings(KEEP, after=2))
    return run(model, image, how, tiling, progress, recordings)


def refresh(model: nn.Module) -> None:
    """What `predict` keeps of a net is made again at its next use.

    Needed only after weights were written in a way that torch does not count: through `.data`,
    through NumPy, or by replaying a CUDA graph of one's own, such as one of a training step.

    Raises:
        TypeError: `model` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    forget(model)


def check_arguments(
    model: nn.Module,
    *,
    crf: CRFParams | None,
    iterations: int,
    normalization: str,
    scale: float | str,
    longest_side: int | None,
    precision: str,
) -> How:
    """Raises what `predict` does."""
    preprocessing = getattr(model, "preprocessing", None)
    if not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            "model: expected a net that says its input format in .preprocessing, "
            f"got {type(model).__name__} with {preprocessing!r}"
        )
    if crf is not None and not isinstance(crf, CRFParams):
        raise TypeError(f"crf: expected CRFParams or None, got {type(crf).__name__}")
    check_normalization(normalization)
    if longest_side is not None:
        longest_side = integer("longest_side", longest_side, least=1)
    return How(
        crf,
        check_iterations(iterations),
        normalization,
        check_scale_or_auto(scale),
        longest_side,
        check_precision(precision),
        preprocessing,
        model.num_classes,  # type: ignore[arg-type]
        integer("model.output_stride", getattr(model, "output_stride", 8), least=1),
    )


def run(
    model: nn.Module,
    image: Picture,
    how: How,
    tiling: Tiling | None = None,
    progress: Progress | None = None,
    recordings: Recordings | None = None,
) -> Prediction:
    """`predict` with checked arguments; without tiles where there are recordings."""
    if isinstance(image, torch.Tensor):
        check_no_transform("predict, Predictor", "the model itself", image)
    net = ready(model, how.precision)
    images = as_rgb_batch(image, net.device)
    if recordings is None:
        found: Tensors = label(model, net, how, images, tiling, progress)
    else:

        def work(pixels: torch.Tensor) -> Labelled:
            return label(model, net, how, pixels)

        key = tuple(images.shape), how, _settings()
        found = recordings.run(recorder_of(net.device), key, net, work, images)
    if isinstance(image, torch.Tensor) and image.ndim == 4:
        return Prediction(*found)
    return Prediction(*(tensor[0] for tensor in found))


def _settings() -> tuple[Hashable, ...]:
    """What else decides which kernels run: a recording does not follow it."""
    cudnn = torch.backends.cudnn
    return (
        *(cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
        *(convolutions_use_tf32(), products_use_tf32()),
        torch.are_deterministic_algorithms_enabled(),
        *(torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")),
        *sorted(_variants.current().items()),
    )
