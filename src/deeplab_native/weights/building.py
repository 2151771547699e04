"""From a weights file to its net, and back to a file of another project."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .._files import atomic_path
from ..models import CAFFE, DeepLab, Preprocessing, create_model, list_models
from ..models.registry import with_memory
from . import names
from .checkpoint import Checkpoint, check_file, read_checkpoint
from .loading import CLASSIFIER, check_new_layers, fit, load_checkpoint

_MAX_CLASSES = 100_000  # a shape costs nothing to claim


def recognise(
    path: str | os.PathLike[str], *, source: str | None = None, sha256: str | None = None
) -> Checkpoint:
    """Reads a weights file and says whose it is; arguments and errors are those of `load`."""
    return read_checkpoint(check_file(path, sha256), source=source, own=_our_keys)


@cache
def _our_keys() -> frozenset[str]:
    return frozenset(key for info in list_models() for key in _on_meta(info.name, 1).state_dict())


def _on_meta(name: str, num_classes: int, **options: Any) -> DeepLab:
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


def num_classes_of(checkpoint: Checkpoint) -> int | None:
    """Classes of its classifier; None where it has none, or several that differ."""
    found = {
        tensor.shape[0]
        for key, tensor in checkpoint.tensors.items()
        if CLASSIFIER.fullmatch(key) and key.endswith(".weight") and tensor.ndim == 4
    }
    return found.pop() if len(found) == 1 and 0 < min(found) <= _MAX_CLASSES else None


def fitting_models(checkpoint: Checkpoint, *, new_layers: str | None = None) -> list[str]:
    """The names of all nets of `list_models()` that the tensors fit by keys and shapes.

    Several fit where only rates differ (ASPP-S and ASPP-L), or where layers are new.
    """
    check_new_layers(new_layers)
    if checkpoint.metadata is not None and new_layers is None:
        return [checkpoint.metadata.model]
    num_classes = num_classes_of(checkpoint) or 1
    return [
        info.name
        for info in list_models()
        if not fit(
            _on_meta(info.name, num_classes, **_options(info.name, checkpoint)),
            checkpoint,
            new_layers=new_layers,
        )[1]
    ]


def _options(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """Options of the net that the weights ask for."""
    known = _on_meta(name, 1).options
    if checkpoint.metadata is not None:
        asked = {key: v for key, v in checkpoint.metadata.options.items() if key in known}
        return asked | {"scales": checkpoint.metadata.scales}
    stride = checkpoint.source.stride_in_1x1
    return {"stride_in_1x1": stride} if stride is not None and "stride_in_1x1" in known else {}


def load_model(
    path: str | os.PathLike[str] | Checkpoint,
    name: str | None = None,
    num_classes: int | None = None,
    *,
    source: str | None = None,
    new_layers: str | None = None,
    preprocessing: Preprocessing | None = None,
    seed: int = 0,
    sha256: str | None = None,
    **options: Any,
) -> DeepLab:
    """Makes the net that a weights file belongs to, with its weights.

    A file of ours says which net that is. For another the name, the number of classes and the
    options are taken from its keys and shapes where they leave no choice.

    Args:
        path: a file that `load` reads, or what `recognise` made of it.
        name, num_classes, options: as of `create_model`; None: from the file.
        source, new_layers: as of `load`.
        preprocessing: input format of weights that bring none, state dicts with our names.
        seed: of the new layers, and as of `load`.
        sha256: of the file, as of `load`; of what `recognise` made of one it is to be given there.

    Raises:
        ValueError: as `load` and `create_model`; the file leaves a choice, the message says which;
            `preprocessing` is missing, or given for weights that bring their own.
        TypeError: an option is unknown to the net.
        OSError: the file cannot be opened.
    """
    check_new_layers(new_layers)
    if torch.get_default_device().type == "meta":
        raise ValueError("path: a net on the meta device has no memory to read weights into")
    if isinstance(path, Checkpoint):
        if sha256 is not None:
            raise ValueError("sha256: the file has been read already (give it to `recognise`)")
        checkpoint = path
    else:
        checkpoint = recognise(path, source=source, sha256=sha256)
    if name is None:
        name = _the_only(checkpoint, new_layers)
    if num_classes is None:
        num_classes = _classes(checkpoint, name, new_layers)
    asked = _options(name, checkpoint)
    has_format = checkpoint.metadata is not None or checkpoint.source.preprocessing is not None
    if has_format == (preprocessing is not None):
        raise ValueError(
            f"preprocessing: {checkpoint.path} "
            + (
                "brings its own input format, expected None"
                if has_format
                else "does not say its input format; expected one, such as models.CAFFE or "
                "weights.TORCHVISION"
            )
        )
    if not has_format and "stride_in_1x1" in _on_meta(name, 1).options.keys() - options.keys():
        raise ValueError(
            f"stride_in_1x1: {checkpoint.path} does not say it; expected True (Caffe's weights "
            "and their ports) or False (torchvision's)"
        )
    options = asked | options
    if new_layers is None:
        model = with_memory(_on_meta(name, num_classes, **options))
    else:
        with torch.device("cpu"):
            model = create_model(name, num_classes, seed=seed, **options)
    load_checkpoint(model, checkpoint, new_layers=new_layers, seed=seed)
    if preprocessing is not None:
        model.preprocessing = preprocessing
    return model.to(torch.get_default_device())


def load_named(
    path: str | os.PathLike[str], name: str | None = None, num_classes: int | None = None
) -> DeepLab:
    """The net of a file, as commands take it: what is not said is taken from the file.

    Unlike `load_model`, with a name it takes weights that do not say their input format: the net's
    own stands for it then. Raises what `load_model` and `create_model` raise.
    """
    checkpoint = recognise(path)
    if name is None or checkpoint.metadata is not None:
        return load_model(checkpoint, name, num_classes)
    model = create_model(name, num_classes or num_classes_of(checkpoint) or 21, seed=0)
    load_checkpoint(model, checkpoint)
    return model


def _the_only(checkpoint: Checkpoint, new_layers: str | None) -> str:
    fitting = fitting_models(checkpoint, new_layers=new_layers)
    if len(fitting) == 1:
        return fitting[0]
    what = f"{checkpoint.path} ({checkpoint.source.what})"
    if fitting:
        raise ValueError(f"name: {what} fits several nets; expected one of {', '.join(fitting)}")
    raise ValueError(
        f"name: {what} fits no net as it is; expected the name of one, for a list of what differs"
        + ("" if new_layers else ', or new_layers="classifier"')
    )


def _classes(checkpoint: Checkpoint, name: str, new_layers: str | None) -> int:
    if new_layers is not None:
        raise ValueError(
            f"num_classes: expected a number, as the classifier of {name} is new; got None"
        )
    if checkpoint.metadata is not None:
        return checkpoint.metadata.num_classes
    found = num_classes_of(checkpoint)
    if found is None:
        raise ValueError(
            f"num_classes: expected a number, as {checkpoint.path} has no classifier of a "
            "segmentation net; got None"
        )
    return found


def export_deeplab_pytorch(model: DeepLab, path: str | os.PathLike[str]) -> None:
    """Writes a ResNet-101 with ASPP as deeplab-pytorch's 632 keys, a file for `torch.load`.

    The file appears whole or not at all, and replaces one that is there.

    Args:
        model: `deeplab_resnet101_aspp` with Caffe's input format and strides, which such a file
            does not tell.
        path: should end in .pth.

    Raises:
        ValueError: another net, input format or stride, or a net without memory.
        OSError: the file cannot be written.
    """
    own = model.state_dict()
    table = {k: v for k, v in names.deeplab_pytorch().items() if not k.startswith("fc.")}
    if own.keys() != {v for v in table.values() if v is not None}:
        raise ValueError(f"model: expected deeplab_resnet101_aspp, got {model.name}")
    if model.preprocessing != CAFFE or not model.options["stride_in_1x1"]:
        raise ValueError(
            "model: expected Caffe's input format and stride_in_1x1=True, which the format stands "
            f"for, got {model.preprocessing} and {model.options}"
        )
    if any(t.is_meta for t in own.values()):
        raise ValueError("model: a net on the meta device has no weights to save")
    state = {
        f"base.{theirs}": torch.zeros((), dtype=torch.int64) if ours is None else own[ours].cpu()
        for theirs, ours in table.items()
    }
    with atomic_path(Path(path)) as temporary:
        torch.save(state, temporary)
