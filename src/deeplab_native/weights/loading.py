"""Weights into a net: all of them, or none and an error that lists everything that is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from .._logging import logger
from ..models.base import DeepLab
from .checkpoint import Checkpoint, check_file, read_checkpoint
from .metadata import as_json
from .state_dict import plain
from .vgg_head import HEAD_KEYS, convolutions, is_classification_head

_log = logger(__name__)
NEW_LAYERS = ("classifier", "head")
CLASSIFIER = re.compile(r"(fc1|fc8)[._].*")  # keys of files; a net says it with classifiers()
_HEAD = re.compile(r"fc\d.*")


def load(
    model: DeepLab,
    path: str | os.PathLike[str],
    *,
    source: str | None = None,
    new_layers: str | None = None,
    seed: int = 0,
    sha256: str | None = None,
) -> None:
    """Reads weights into a net: all of them, or none and an error.

    What the file is shows in its content, its name may be any:

    - safetensors written by `save`;
    - PyTorch state dicts, also within a training checkpoint, beside objects of any class, which
      are not made, or within a whole module; with our names, those of
      deeplab-pytorch (`deeplabv2_resnet101_msc-*.pth`), of pytorch-deeplab-resnet (isht7,
      speedinghzl), of torchvision's resnet101 and vgg16; safetensors with these names;
    - Caffe's `.caffemodel`, of the authors' nets or of VGG-16 and ResNet-101 for ImageNet.

    Values are converted to the dtype and device of the net. `model.preprocessing` becomes the input
    format that the weights were trained with. Only a state dict with our names has none: the net
    keeps its own. A file of ours also brings `class_names`, `palette` and `crf`, if it has them.

    Of VGG-16 for ImageNet, fc6 and fc7 become convolutions, see `weights.vgg_head`.

    Args:
        model: a net of `create_model`.
        path: the file.
        source: a name of `weights.SOURCES` where the keys leave open whose weights these are, and
            so their input format. "caffe-port" is for Caffe's weights under torchvision's names,
            which are otherwise taken for torchvision's.
        new_layers: layers that are new and so keep the net's values, whatever the file has for
            them: "classifier" (`model.classifiers()`), for other classes or weights of ImageNet,
            or "head" (all that is named fc...). The net may then have another `output_stride` than
            the file says, as its filters are of any. None: the file must have everything.
        seed: of the filters that a smaller fc6 and fc7 take from those for ImageNet.
        sha256: of the file, 64 hexadecimal digits, compared before anything of it is parsed; None:
            any.

    Raises:
        ValueError: the file has another SHA-256; it is damaged, nothing that is known, or leaves
            open what `source` says;
            it is of another net, other classes or other options; keys or shapes don't match, all of
            them listed, in the file's names and ours; a net on the meta device; another
            `new_layers`.
        OSError: the file cannot be opened.
    """
    check_new_layers(new_layers)
    path = check_file(path, sha256)
    own = model.state_dict()
    if any(t.is_meta for t in own.values()):
        raise ValueError("model: a net on the meta device has no memory to read weights into")
    checkpoint = read_checkpoint(path, source=source, own=own.keys)
    load_checkpoint(model, checkpoint, new_layers=new_layers, seed=seed)


def check_new_layers(new_layers: str | None) -> None:
    """Raises ValueError unless it is None or one of `NEW_LAYERS`."""
    if new_layers is not None and new_layers not in NEW_LAYERS:
        raise ValueError(
            f"new_layers: expected None or one of {', '.join(NEW_LAYERS)}; got {new_layers!r}"
        )


def load_checkpoint(
    model: DeepLab, checkpoint: Checkpoint, *, new_layers: str | None = None, seed: int = 0
) -> None:
    """`load` with the file already read."""
    own = model.state_dict()
    tensors, problems = fit(model, checkpoint, new_layers=new_layers, seed=seed)
    if problems:
        raise ValueError(
            f"{checkpoint.path} does not fit {model.name}:\n  " + "\n  ".join(problems)
        )
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
    _log.info(
        "%s, as those of %s: %d tensors into %s, %d kept",
        *(checkpoint.path, checkpoint.source.name, len(tensors), model.name),
        len(own) - len(tensors),
    )
    if checkpoint.metadata is not None:
        metadata = checkpoint.metadata
        # names and colours are those of the classifier
        metadata.put_on(model, classes=new_layers is None)
    elif checkpoint.source.preprocessing is not None:
        model.preprocessing = checkpoint.source.preprocessing


def fit(
    model: DeepLab, checkpoint: Checkpoint, *, new_layers: str | None = None, seed: int = 0
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """What goes into the net, by its keys, and everything that is in the way, a line each."""
    own = model.state_dict()
    new = _new_keys(model, own, new_layers)
    wanted = {key: tensor for key, tensor in own.items() if key not in new}
    found = dict(checkpoint.tensors)
    imagenet = is_classification_head({key: t.shape for key, t in found.items()})
    converted: dict[str, torch.Tensor] = {}
    if imagenet and all(plain(found[key]) is None for key in HEAD_KEYS):
        head = {key: found[key] for key in HEAD_KEYS}
        if any(t.is_meta for t in own.values()):  # only shapes are asked for
            head = {key: t.to("meta") for key, t in head.items()}
        converted = convolutions(head, wanted, seed)
        if converted:
            found = {key: t for key, t in found.items() if key not in HEAD_KEYS}
    skip = {None: None, "classifier": CLASSIFIER, "head": _HEAD}[new_layers]
    if skip is not None:
        found = {key: t for key, t in found.items() if key in wanted or not skip.fullmatch(key)}
    found |= converted
    problems = _other_net(model, checkpoint, new, own)
    problems += _mismatches(wanted, found, checkpoint)
    if problems:
        problems += _remedy(checkpoint, new_layers, imagenet)
    return {key: found[key] for key in wanted if key in found}, problems


def _remedy(checkpoint: Checkpoint, new_layers: str | None, imagenet: bool) -> list[str]:
    source = checkpoint.source.name
    if source == "torchvision-features" and new_layers != "head":
        return [
            'only the trunk was trained: new_layers="head" keeps the net\'s own fc6, fc7 and fc8'
        ]
    if new_layers is None and (imagenet or source == "torchvision"):
        return [
            'weights for ImageNet have no scores of your classes: new_layers="classifier" keeps '
            'those of the net, new_layers="head" all of its fc layers'
        ]
    return []


def _new_keys(model: DeepLab, own: Mapping[str, Any], new_layers: str | None) -> set[str]:
    if new_layers is None:
        return set()
    last = {id(module) for module in model.classifiers()}
    fronts = tuple(f"{name}." for name, module in model.named_modules() if id(module) in last)
    return {
        key
        for key in own
        if key.startswith(fronts) or (new_layers == "head" and _HEAD.fullmatch(key))
    }


def _other_net(
    model: DeepLab, checkpoint: Checkpoint, new: set[str], own: Mapping[str, Any]
) -> list[str]:
    """Differences that keys and shapes don't show."""
    problems = []
    if checkpoint.metadata is not None:
        theirs = checkpoint.metadata
        # a classifier that is new learns what it needs at the net's own stride
        free = {"output_stride"} if new else set()
        options = [
            {key: value for key, value in one.items() if key not in free}
            for one in (theirs.options, as_json(model.options))
        ]
        takes_head = not all(key in new for key in own if _HEAD.fullmatch(key))
        # nets with the same keys and shapes may differ in their rates (ASPP-S, ASPP-L) or strides
        for what, a, b, matters in (
            ("net", theirs.model, model.name, takes_head),
            ("num_classes", theirs.num_classes, model.num_classes, not new),
            ("options", *options, True),
        ):
            if matters and a != b:
                problems.append(f"{what}: {a} in the file, {b} in the net")
    strides = model.options.get("stride_in_1x1"), checkpoint.source.stride_in_1x1
    if None not in strides and strides[0] != strides[1]:
        words = ("3 x 3", "1 x 1") if strides[1] is False else ("1 x 1", "3 x 3")
        problems.append(
            f"stride_in_1x1: {checkpoint.source.what} strides in the {words[0]} convolutions, the "
            f"net in the {words[1]} ones; make it with create_model({model.name!r}, "
            f"stride_in_1x1={strides[1]})"
        )
    return problems


def _mismatches(
    wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], checkpoint: Checkpoint
) -> list[str]:
    problems = []
    label = checkpoint.label
    for key, tensor in wanted.items():
        if key not in found:
            problems.append(f"{label(key)}: missing in the file, {tuple(tensor.shape)} in the net")
    for key, tensor in found.items():
        shape = tuple(tensor.shape)
        if key not in wanted:
            problems.append(f"{label(key)}: {shape} in the file, unknown to the net")
        elif shape != tuple(wanted[key].shape):
            problems.append(
                f"{label(key)}: {shape} in the file, {tuple(wanted[key].shape)} in the net"
            )
        elif obstacle := key in checkpoint.tensors and plain(checkpoint.tensors[key]):
            problems.append(f"{label(key)}: {obstacle}, expected plain floating point")
        elif tensor.is_floating_point() != wanted[key].is_floating_point():
            expected = "floating point" if wanted[key].is_floating_point() else wanted[key].dtype
            problems.append(f"{label(key)}: {tensor.dtype} in the file, expected {expected}")
    for name, tensor in checkpoint.unknown.items():
        problems.append(f"{name}: {tuple(tensor.shape)} in the file, unknown to the net")
    return problems
