"""`predict` for many images of a few sizes: on a GPU, one CUDA graph from image to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .._integers import integer, pair
from ..crf import CRFParams
from ._cuda_graphs import recorder_of
from ._inference import forget, ready
from ._recordings import Recordings
from .predict import KEEP, Prediction, check_arguments, run
from .preprocessing import Picture


class Predictor:
    """Labels images as `predict` does, with the arguments given once.

    On CUDA, net, interpolation, softmax and CRF of each size of image are recorded at its first
    image as one CUDA graph, which is replayed for every other: starting some hundred kernels one
    by one takes longer than the device takes for one image. A graph computes what `predict`
    computes, by the same kernels. On the CPU, within another capture, and where a graph cannot
    hold what the net does (RuntimeWarning), everything runs as in `predict`.

    Graphs are recorded again once the net's weights, layers or settings have changed; what cannot
    be seen, `predict` says. Of a module of another package, the graph holds what its `forward` did
    when it was recorded: call `refresh` where that depends on more than its modules and weights.

    Threads and streams may share a predictor, and a net its predictors: the graphs of a device run
    one after the other, results are copies, and belong to the stream that was current. The graphs
    of a device share their memory: what the largest of them needs, and their results.

    Args:
        model: as of `predict`; it may be changed, trained and moved at any time.
        size: height and width of images, one integer or (vertical, horizontal): their graph is
            recorded at once, and not at the first image.
        batch: how many of them come at once.
        crf, iterations, normalization, scale, longest_side, precision: as of `predict`.
        keep: so many graphs, the latest used, at least 1: of every size and number of images one.

    Example:
        >>> predictor = Predictor(net, (375, 500), crf=CRFParams.preset("voc-resnet101"))
        >>> labels = predictor(photo).labels

    Raises:
        TypeError, ValueError: as `predict`; `size`, `batch` or `keep` is no positive integer.
    """

    def __init__(
        self,
        model: nn.Module,
        size: int | Sequence[int] | None = None,
        *,
        batch: int = 1,
        crf: CRFParams | None = None,
        iterations: int = 10,
        normalization: str = "symmetric",
        scale: float | str = 1.0,
        longest_side: int | None = None,
        precision: str = "auto",
        keep: int = KEEP,
    ) -> None:
        self.model = model
        self._arguments: dict[str, Any] = {
            "crf": crf,
            "iterations": iterations,
            "normalization": normalization,
            "scale": scale,
            "longest_side": longest_side,
            "precision": precision,
        }
        how = check_arguments(model, **self._arguments)
        batch = integer("batch", batch, least=1)
        self._recordings = Recordings(integer("keep", keep, least=1), after=1)
        if size is not None:
            height, width = pair("size", size, least=1)
            device = ready(model, how.precision).device
            shape = (batch, 3, height, width)
            if recorder_of(device) is not None:
                self(torch.zeros(shape, dtype=torch.uint8, device=device))

    def __call__(self, image: Picture) -> Prediction:
        """The prediction of an image, or of a batch of them.

        Args:
            image: as of `predict`: a path, or RGB, 0..255: array (H, W, 3) uint8, PIL image of mode
                "RGB", or tensor (3, H, W) or (B, 3, H, W) uint8. An array, and a tensor on the
                CPU, go to a GPU without a wait; so does everything else.

        Returns:
            Prediction on the model's device, in memory of its own; with (B, 3, H, W) every tensor
            has B in front. On CUDA the call returns before the device has finished.

        Raises:
            TypeError, ValueError, OSError: as `predict`.
        """
        how = check_arguments(self.model, **self._arguments)
        return run(self.model, image, how, recordings=self._recordings)

    @property
    def recorded(self) -> list[tuple[int, int, int]]:
        """(batch, height, width) of the images whose graphs are kept, the latest used last."""
        shapes = [shape for shape, *_ in self._recordings.recorded()]
        return [(batch, height, width) for batch, _, height, width in shapes]

    def refresh(self) -> None:
        """Drops all graphs, and what was made of the net: after changes that cannot be seen."""
        device = ready(self.model, self._arguments["precision"]).device
        self._recordings.clear(recorder_of(device))
        forget(self.model)
