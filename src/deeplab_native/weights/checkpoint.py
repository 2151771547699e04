"""What a weights file turns out to be, and its tensors under our names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from .._file_kinds import what_else
from ..models.preprocessing import CAFFE, Preprocessing
from . import names
from .caffe_names import named_blobs
from .caffemodel import read_caffemodel
from .digest import check_sha256
from .metadata import Metadata
from .safetensors_file import read_safetensors
from .state_dict import plain, read_pickled, without_prefixes
from .vgg_head import HEAD_KEYS

TORCHVISION = Preprocessing("RGB", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1.0)
"""Of torchvision's weights: RGB of 0..1, ImageNet's mean and standard deviation."""
TORCHVISION_FEATURES = Preprocessing("RGB", (0.48235, 0.45882, 0.40784), (1 / 255,) * 3, 1.0)
"""Of torchvision's VGG-16 `IMAGENET1K_FEATURES`: RGB of 0..255 with the mean taken away."""


@dataclass(frozen=True)
class Source:
    """A project whose files we read.

    Attributes:
        name: for the argument `source`.
        what: in words.
        preprocessing: input format that its weights were trained with; None: the file or the user
            says it.
        stride_in_1x1: where its ResNet strides; None: it has none, or the file says it.
    """

    name: str
    what: str
    preprocessing: Preprocessing | None = None
    stride_in_1x1: bool | None = None


SOURCES = {
    source.name: source
    for source in (
        Source("deeplab_native", "our own names"),
        Source("deeplab-pytorch", "kazuto1011's deeplab-pytorch", CAFFE, True),
        Source("isht7", "pytorch-deeplab-resnet of isht7, speedinghzl and others", CAFFE, True),
        Source("torchvision", "torchvision's resnet101 or vgg16", TORCHVISION, False),
        Source("torchvision-features", "torchvision's vgg16 features", TORCHVISION_FEATURES),
        Source("caffe-port", "Caffe's weights under torchvision's names", CAFFE, True),
        Source("caffemodel", "a caffemodel", CAFFE, True),
    )
}
"""By name; `caffe-port` is never recognised, as its keys are torchvision's."""


@dataclass
class Checkpoint:
    """The content of a weights file.

    Attributes:
        path: the file.
        source: whose names it has.
        tensors: by our key.
        in_file: our key -> the name in the file, also of keys that the file lacks.
        unknown: tensors without a name of ours, by their name in the file.
        metadata: of files of ours.
    """

    path: Path
    source: Source
    tensors: dict[str, torch.Tensor]
    in_file: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, torch.Tensor] = field(default_factory=dict)
    metadata: Metadata | None = None

    def label(self, key: str) -> str:
        """A key of ours, with the name in the file where that is another one."""
        theirs = self.in_file.get(key, key)
        return key if theirs == key else f"{theirs} (our {key})"


def read_checkpoint(
    path: Path, *, source: str | None, own: Callable[[], Iterable[str]]
) -> Checkpoint:
    """Reads a weights file and finds out, from its content alone, what it is.

    Args:
        path: of any name.
        source: a name of `SOURCES` where the keys leave it open; None: by the keys.
        own: gives our keys, to recognise a state dict with our names.

    Raises:
        ValueError: `source` is unknown or not what the file can be; the file is damaged or nothing
            that we know; or it can be several things, and `source` has to say which.
        OSError: it cannot be opened.
    """
    if source is not None and source not in SOURCES:
        raise ValueError(f"source: expected one of {', '.join(SOURCES)}; got {source!r}")
    kind = _kind(path)
    if kind == "caffemodel":
        _allow(path, source, "caffemodel")
        return _from_caffe(path)
    if kind == "safetensors":
        metadata, _, tensors = read_safetensors(path)
        if metadata is not None:
            _allow(path, source, "deeplab_native")
            return Checkpoint(path, SOURCES["deeplab_native"], tensors, metadata=metadata)
    else:
        tensors = read_pickled(path)
    keys = without_prefixes(tensors)
    name, table = _recognise(path, keys, source, own)
    if source is None and name == "torchvision" and "features.0.weight" in keys:
        # the file is whole, but what is behind the features was never trained
        head = tensors[keys["classifier.0.weight"]]
        whole = plain(head) is None and head.shape == HEAD_KEYS["fc6.weight"]
        if whole and not head.isfinite().all():
            name = "torchvision-features"
    if name == "deeplab_native" and source is None and kind == "safetensors":
        raise ValueError(
            f"{path} has our names, but was not written by deeplab_native.weights.save: it does "
            'not say its input format; source="deeplab_native" takes that of the net'
        )
    return _translated(path, SOURCES[name], tensors, keys, table)


def _kind(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(512)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 40:
        return "safetensors"
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        raise ValueError(f"{path} is an HDF5 file (save the net as a binary .caffemodel)")
    if other := what_else(path):
        advice = "" if other.endswith(")") else " (give a .pth, .caffemodel or .safetensors)"
        raise ValueError(f"{path} is {other}{advice}")
    # a zip file, a pickle of protocol 2 and later, a tar file
    if start[:2] == b"PK" or start[:1] == b"\x80" or start[257:262] == b"ustar":
        return "pickled"
    if len(start) < 9:
        raise ValueError(f"{path} is no weights file, or truncated: it has {len(start)} bytes")
    return "caffemodel"


def _allow(path: Path, source: str | None, *possible: str) -> None:
    if source is not None and source not in possible:
        raise ValueError(
            f"source: expected {' or '.join(map(repr, possible))}, or None, for {path}; "
            f"got {source!r}"
        )


def _from_caffe(path: Path) -> Checkpoint:
    result = Checkpoint(path, SOURCES["caffemodel"], {})
    for key, label, values in named_blobs(path, read_caffemodel(path)):
        # a copy: the file need not lie on the boundaries that torch wants
        tensor = torch.from_numpy(np.array(values, dtype=values.dtype.newbyteorder("="), order="C"))
        if key is None:
            result.unknown[label] = tensor
        elif key in result.tensors:
            raise ValueError(
                f"{path}: {label} and {result.in_file[key]} are both our {key} (keep the "
                "classifier of one data set)"
            )
        else:
            result.tensors[key] = tensor
            result.in_file[key] = label
    return result


_TABLES: tuple[tuple[tuple[str, ...], Callable[[], names.Names], tuple[str, ...]], ...] = (
    (("deeplab-pytorch",), names.deeplab_pytorch, ("base.", "scale.", "")),
    (
        ("deeplab-pytorch",),
        lambda: names.deeplab_pytorch(aspp="aspp.stages.c{}"),
        ("base.", "scale.", ""),
    ),
    (("isht7",), names.isht7, ("Scale.", "")),
    (("torchvision", "caffe-port"), names.torchvision_resnet101, ("",)),
    (
        ("torchvision", "torchvision-features", "caffe-port"),
        names.torchvision_vgg16,
        ("",),
    ),
)
"""Sources that share a table of names, the table, and what may stand in front of its keys."""


def _recognise(
    path: Path, keys: Mapping[str, str], source: str | None, own: Callable[[], Iterable[str]]
) -> tuple[str, names.Names]:
    """The source, and the names that explain most keys of the file."""
    scores: list[tuple[int, tuple[str, ...], names.Names]] = []
    for sources, table, prefixes in _TABLES:
        bare = table()
        for prefix in prefixes:
            prefixed: names.Names = {prefix + theirs: ours for theirs, ours in bare.items()}
            scores.append((len(prefixed.keys() & keys.keys()), sources, prefixed))
    native: names.Names = {key: key for key in own()}
    scores.append((len(native.keys() & keys.keys()), ("deeplab_native",), native))
    if source is not None:
        scores = [score for score in scores if source in score[1] and score[0]]
    most = max((score[0] for score in scores), default=0)
    best = [score for score in scores if score[0] == most]
    if most == 0:
        some = ", ".join(list(keys)[:3]) or "none at all"
        known = ", ".join(SOURCES) if source is None else source
        raise ValueError(
            f"{path} has no keys of {known} (its keys: {some:.200}"
            f"{', ...' if len(keys) > 3 else ''})"
        )
    if source is not None:
        return source, best[0][2]
    certain = {sources[0] for _, sources, _ in best}
    # without a classifier: isht7's and torchvision's trunks have the same names, and VGG-16's
    # features in torchvision's two versions
    candidates = best[0][1] if "features.0.weight" in keys else tuple(certain)
    open_ = len(certain) > 1 or (len(candidates) > 1 and "classifier.0.weight" not in keys)
    if open_ and "torchvision" in certain:
        candidates = tuple(dict.fromkeys((*candidates, "caffe-port")))
    if open_:
        choice = " or ".join(f'source="{name}" ({SOURCES[name].what})' for name in candidates)
        raise ValueError(
            f"{path} does not say by its keys whose weights it has, and so their input format; "
            f"expected {choice}"
        )
    return best[0][1][0], best[0][2]


def _translated(
    path: Path,
    source: Source,
    tensors: Mapping[str, torch.Tensor],
    keys: Mapping[str, str],
    table: names.Names,
) -> Checkpoint:
    front = next((t.removesuffix(k) for k, t in keys.items()), "")
    result = Checkpoint(path, source, {})
    for theirs, ours in table.items():
        if ours is not None:
            result.in_file[ours] = front + theirs
    for key, theirs in keys.items():
        if key not in table:
            result.unknown[theirs] = tensors[theirs]
        elif (name := table[key]) is not None:
            result.tensors[name] = tensors[theirs]
    if source.name == "torchvision-features":
        result.tensors = {k: t for k, t in result.tensors.items() if not k.startswith("fc")}
    return result


def check_file(path: str | os.PathLike[str], sha256: str | None = None) -> Path:
    """`path`, where it is a file that may be opened; nothing in it is parsed.

    Args:
        path: the file.
        sha256: what it must have, 64 hexadecimal digits; None: any.

    Raises:
        IsADirectoryError, FileNotFoundError: a folder, or nothing at all.
        ValueError: something that is no file, such as a pipe; another SHA-256.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give one weights file)")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such weights file (check the path)")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file (give one weights file)")
    if sha256 is not None:
        check_sha256(path, sha256)
    return path
