"""Pictures and files of a workspace as bytes, made when somebody asks for them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from .. import viz
from .._images import fromarray
from .._masks import UNSURE
from ..jobs._label_map import LabelMap
from ..jobs._refine_image import _by_label
from .given import Labelling, Photo
from .workspace import Workspace

JPEG, PNG, NPZ = "image/jpeg", "image/png", "application/octet-stream"
FILES = ("photo.png", "mask.png", "overlay.png", "probabilities.npz", "labelling.png")
_QUALITY = 88
_INK = 0.85  # the share of a scribble's colour


def picture(workspace: Workspace, what: str, label: int = 0, iteration: int = 0) -> bytes:
    """A JPEG: photo, before, after, score (of a label) or belief (of a label, after an iteration).

    Raises ValueError for anything else, and for what is not there.
    """
    photo, labelling, refined = workspace.photo, workspace.labelling, workspace.refined
    if photo is None:
        raise ValueError("photograph: none yet")
    if what == "photo":
        return _jpeg(photo.pixels)
    if labelling is None or refined is None:
        raise ValueError("result: none yet")
    if what == "before":
        if labelling.mode == "scribbles":
            return _jpeg(_inked(photo, labelling, refined.before))
        return _jpeg(_over(photo, labelling, refined.before))
    if what == "after":
        return _jpeg(_over(photo, labelling, refined.after))
    if what == "score":
        return _jpeg(_coloured((workspace.score_map(label) + 1) / 2, "RdBu_r"))
    if what == "belief":
        return _jpeg(_coloured(workspace.belief(label, iteration), "magma"))
    raise ValueError(f"picture {what!r}: expected photo, before, after, score or belief")


def download(workspace: Workspace, what: str) -> tuple[bytes, str]:
    """Content and media type of a file, one of `FILES`.

    The mask is a palette PNG whose pixels are the labels. The probabilities have an array of that
    name, (L, H, W) float32, whose index is the label. The labelling is the scribbles, 255 = unsure,
    as `refine` and `deeplab-native crf` take it; the photograph is the copy that is worked on.
    Raises ValueError as `picture`.
    """
    photo, labelling, refined = workspace.photo, workspace.labelling, workspace.refined
    if photo is None or labelling is None or refined is None:
        raise ValueError("result: none yet")
    if what == "mask.png":
        return _written(
            what, lambda path: viz.save_label_png(path, refined.after, labelling.colours)
        ), PNG
    if what == "labelling.png" and labelling.mode == "scribbles":
        return _written(
            what, lambda path: viz.save_label_png(path, refined.before, labelling.colours)
        ), PNG
    if what == "overlay.png":
        over = _over(photo, labelling, refined.after)
        return _written(what, lambda path: viz.save_png(path, over)), PNG
    if what == "probabilities.npz" and refined.q is not None:
        file = io.BytesIO()
        np.savez_compressed(file, probabilities=_by_label(refined.q, labelling.given.labels))
        return file.getvalue(), NPZ
    if what == "photo.png":
        return _written(what, lambda path: viz.save_png(path, photo.pixels)), PNG
    raise ValueError(f"file {what!r}: expected {', '.join(FILES)} (the last of scribbles alone)")


def _over(photo: Photo, labelling: Labelling, labels: np.ndarray) -> np.ndarray:
    """Unsure pixels, as those of the background, have the photograph's colours."""
    if isinstance(labelling.given, LabelMap):
        labels = np.where(labels == UNSURE, 0, labels)
    return viz.overlay(photo.pixels, labels, labelling.colours)


def _inked(photo: Photo, labelling: Labelling, labels: np.ndarray) -> np.ndarray:
    """Scribbles on the photograph, those of the background, too."""
    pixels: np.ndarray = photo.pixels.copy()
    drawn = labels != UNSURE
    mixed = photo.pixels[drawn] * (1 - _INK) + labelling.colours[labels[drawn]] * _INK
    pixels[drawn] = np.rint(mixed)
    return pixels


def _coloured(values: np.ndarray, colours: str) -> np.ndarray:
    """(H, W, 3) uint8 of 0..1, or of uint8, in matplotlib's colours of a name."""
    from matplotlib import colormaps

    table = (colormaps[colours](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    if values.dtype != np.uint8:
        values = np.rint(values * 255).astype(np.uint8)
    found: np.ndarray = table[values]
    return found


def _jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _written(name: str, write: Callable[[Path], None]) -> bytes:
    """What a function writes into a file."""
    with TemporaryDirectory(prefix="deeplab-native-") as folder:
        path = Path(folder, name)
        write(path)
        return path.read_bytes()
