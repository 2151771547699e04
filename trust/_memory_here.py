"""Images through this process: the CRF by all its doors, and the net."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

import deeplab_native.pydensecrf.densecrf as dcrf
from deeplab_native import CRFParams, dense_crf, models, refine, weights

from ._pictures import Picture, Pictures

PARAMS = CRFParams(4, 30, 20, 3, 3)
_ITERATIONS = 5
_WRONG = 100  # one image of so many is no image


def crf() -> Iterator[Callable[[int], None]]:
    """Of an image: `refine` of a mask or of scores, `dense_crf`, or the drop-in, in turn."""
    pictures = Pictures()
    doors = (_mask, _scores, _batch, _drop_in)

    def image(number: int) -> None:
        if number % _WRONG == _WRONG - 1:
            _refused(lambda: refine(pictures.photo(number), np.zeros((3, 5, 7), np.float32)))
        else:
            doors[number % len(doors)](pictures[number])

    yield image


def net() -> Iterator[Callable[[int], None]]:
    """The package's own net, with the CRF for every second image; half as large each way."""
    pictures = Pictures(shrink=2)
    model = weights.load_model(weights.EMBEDDED)

    def image(number: int) -> None:
        if number % _WRONG == _WRONG - 1:
            _refused(lambda: models.predict(model, np.zeros((9, 9), np.float32)))
        else:
            models.predict(model, pictures.photo(number), crf=PARAMS if number % 2 else None)

    yield image


def _refused(call: Callable[[], object]) -> None:
    try:
        call()
    except (TypeError, ValueError):
        return
    raise AssertionError("an image that is none was taken")


def _mask(picture: Picture) -> None:
    refine(picture.photo, picture.scores.argmax(0) == 0, params=PARAMS)


def _scores(picture: Picture) -> None:
    refine(picture.photo, picture.scores, kind="logits", params=PARAMS, return_probabilities=True)


def _batch(picture: Picture) -> None:
    unary = -torch.from_numpy(picture.scores)[None].log_softmax(1)
    image = torch.from_numpy(picture.photo).permute(2, 0, 1)[None]
    dense_crf(unary, image, PARAMS, iterations=_ITERATIONS)


def _drop_in(picture: Picture) -> None:
    labels, height, width = picture.scores.shape
    field = dcrf.DenseCRF2D(width, height, labels)
    field.setUnaryEnergy(-picture.scores.reshape(labels, -1))
    field.addPairwiseGaussian(sxy=3, compat=3)
    field.addPairwiseBilateral(sxy=30, srgb=20, rgbim=picture.photo, compat=4)
    np.argmax(field.inference(_ITERATIONS), axis=0)
