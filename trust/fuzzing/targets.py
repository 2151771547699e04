"""The readers of this package, each with what it may take."""

from __future__ import annotations

from pathlib import Path

from . import mutators, seeds
from .target import Reader, Scratch, Target

_KB = 1024


def _caffemodel(_: Scratch) -> Reader:
    from deeplab_native.weights.caffe_names import named_blobs
    from deeplab_native.weights.caffemodel import parse_caffemodel

    path = Path("caffemodel")
    return lambda data: list(named_blobs(path, parse_caffemodel(data, path)))


TARGETS = {
    target.name: target
    for target in (
        Target(
            "caffemodel",
            "a .caffemodel: layers and their blobs",
            ("weights/caffe*.py", "weights/protobuf.py"),
            _caffemodel,
            seeds.caffemodels,
            max_len=192,
            memory=(64, 64 * _KB),
            mutator=mutators.caffemodel,
        ),
    )
}
