"""From the layers of a caffemodel to our keys: the authors' nets, and VGG-16's for ImageNet.

Our names are Caffe's, so little is left to translate: `res4b5_branch2a` with `bn4b5_branch2a` and
`scale4b5_branch2a` is our `res4.block6.branch2a`; classifiers carry the name of the data set,
`fc8_voc12_1` or `fc1_voc12_c0` (`fc1000` in ResNet-101 for ImageNet). The
nets for several scales hold every layer three times, as `..._res075` and `..._res05` beside the
first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .caffemodel import Layer

_COPY = re.compile(r"(.+)_res0(75|5)")
_RESNET = re.compile(
    r"(?P<kind>res|bn|scale)(?P<stage>[2-5])(?P<block>[abc]|b\d{1,2})_branch(?P<branch>1|2[abc])"
)
_RESNET_STEM = re.compile(r"(?P<kind>bn_|scale_)?conv1")
_RESNET_CLASSIFIER = re.compile(r"fc1(?:000)?(?:_(?!c\d$).+?)?(?:_c(?P<branch>[0-3]))?")
_VGG = re.compile(r"conv[1-5]_[1-3]|fc[67](?:_[1-4])?")
_VGG_CLASSIFIER = re.compile(r"fc8(?:_(?![1-4]$).+?)?(?:_(?P<branch>[1-4]))?")


def named_blobs(path: Path, layers: list[Layer]) -> Iterator[tuple[str | None, str, np.ndarray]]:
    """(our key or None, the name in the file, values) of everything that a caffemodel holds.

    Means and variances are divided by the layer's scale factor, as Caffe does when it runs.

    Raises:
        ValueError: copies of a layer that differ, two layers of one name, or a layer of batch
            normalisation without its three blobs; says which layer and at which byte.
    """
    for layer in _without_copies(path, layers):
        ours, kind = _our_layer(layer.name)
        if kind == "bn":
            yield from _statistics(path, layer, ours)
            continue
        for i, blob in enumerate(layer.blobs):
            parameter = ("weight", "bias")[i] if i < 2 and not (kind == "res" and i) else None
            key = None if ours is None or parameter is None else f"{ours}.{parameter}"
            vector = kind == "scale" or parameter == "bias"
            yield key, _label(layer, i), _reshaped(blob, layer, vector=vector)


def _label(layer: Layer, i: int) -> str:
    return f"{layer.name}.blobs[{i}]"


def _without_copies(path: Path, layers: list[Layer]) -> list[Layer]:
    first: dict[str, Layer] = {}
    copies = []
    for layer in layers:
        match = _COPY.fullmatch(layer.name)
        if match:
            copies.append((match[1], layer))
        elif layer.name in first:
            raise ValueError(f"{path}: two layers are named {layer.name!r} (byte {layer.at})")
        else:
            first[layer.name] = layer
    for name, copy in copies:
        original = first.setdefault(name, copy)
        same = len(original.blobs) == len(copy.blobs) and all(
            np.array_equal(a, b, equal_nan=True)
            for a, b in zip(original.blobs, copy.blobs, strict=True)
        )
        if not same:
            raise ValueError(
                f"{path}: {copy.name} (byte {copy.at}) should hold the weights of "
                f"{original.name}, and they differ"
            )
    return list(first.values())


def _our_layer(name: str) -> tuple[str | None, str]:
    """Our module and the kind of the layer.

    "res" is a convolution with batch normalisation behind; others are "bn", "scale", and "" for a
    convolution with a bias.
    """
    if match := _RESNET_STEM.fullmatch(name):
        kind = (match["kind"] or "res").rstrip("_")
        return ("conv1.conv" if kind == "res" else "conv1.bn"), kind
    if match := _RESNET.fullmatch(name):
        letter, number = match["block"][0], match["block"][1:]
        block = int(number) + 1 if number else "abc".index(letter) + 1
        ours = f"res{match['stage']}.block{block}.branch{match['branch']}"
        return (f"{ours}.conv" if match["kind"] == "res" else f"{ours}.bn"), match["kind"]
    if match := _RESNET_CLASSIFIER.fullmatch(name):
        return ("fc1" if match["branch"] is None else f"fc1.c{match['branch']}"), ""
    if match := _VGG_CLASSIFIER.fullmatch(name):
        return ("fc8" if match["branch"] is None else f"fc8_{match['branch']}"), ""
    return (name if _VGG.fullmatch(name) else None), ""


def _statistics(
    path: Path, layer: Layer, ours: str | None
) -> Iterator[tuple[str | None, str, np.ndarray]]:
    """Blobs of BatchNorm: sums of means and variances, and the factor that they are divided by."""
    if len(layer.blobs) != 3 or layer.blobs[2].size != 1:
        raise ValueError(
            f"{path}: {layer.name} (byte {layer.at}) should have three blobs, mean, variance and "
            f"one factor; its blobs have shapes {', '.join(str(b.shape) for b in layer.blobs)}"
        )
    factor = layer.blobs[2].reshape(())
    if not np.isfinite(factor) or factor < 0:
        raise ValueError(
            f"{path}: {layer.name} (byte {layer.at}) has the factor {factor}, expected a positive "
            "number, or 0 where nothing was counted"
        )
    for i, parameter in enumerate(("running_mean", "running_var")):
        blob = _reshaped(layer.blobs[i], layer, vector=True)
        # 0: Caffe takes zeros, whatever is there
        values = blob / factor if factor > 0 else np.zeros_like(blob)
        yield None if ours is None else f"{ours}.{parameter}", _label(layer, i), values


def _reshaped(blob: np.ndarray, layer: Layer, *, vector: bool) -> np.ndarray:
    """Without the axes of size 1 that old files put in front of vectors and matrices."""
    if vector and blob.ndim > 1 and blob.shape[-1] == blob.size:
        return blob.reshape(-1)
    if layer.kind == "InnerProduct" and blob.ndim == 4 and blob.shape[:2] == (1, 1):
        return blob.reshape(blob.shape[2:])
    return blob
