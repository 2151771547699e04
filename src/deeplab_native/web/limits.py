"""What the page takes from a visitor: by content and not by name, and no more than it can hold."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .._file_kinds import what_else
from .._images import image_size
from ..jobs._array_sizes import archive_bytes, array_bytes

_LEAST_SIDE = 8  # pixels
# How the files begin that a browser shows: Pillow's decoders for these three alone are trusted
_PICTURES = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """What a visitor, and all of them together, may use.

    Attributes:
        upload: bytes of a file.
        pixels: of a photograph as it is uploaded, looked up in its header.
        worked_on: pixels of the copy that the page works on, so that the CRF takes a fraction of a
            second; larger photographs are reduced to it.
        values: labels x pixels of scores, of that copy; a tensor of them takes four times as many
            bytes, and there are about three.
        unpacked: bytes that an array may have in memory, whatever it has in a compressed file.
        seconds: for computing one answer, and for sending one request.
        sessions: of visitors at the same time; the one that was idle for longest goes first.
        memory: bytes of all sessions together.
        idle: seconds after which a session that does nothing goes.
        waiting: requests in the queue.
    """

    upload: int = 32 << 20
    pixels: int = 24_000_000
    worked_on: int = 640_000
    values: int = 1 << 25
    unpacked: int = 1 << 29
    seconds: float = 60.0
    sessions: int = 128
    memory: int = 2 << 30
    idle: float = 3600.0
    waiting: int = 64

    def working_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the copy that the page works on."""
        shrink = min(1.0, (self.worked_on / (height * width)) ** 0.5)
        return max(1, round(height * shrink)), max(1, round(width * shrink))


def check_photo(path: Path, limits: Limits) -> None:
    """Raises ValueError unless it is a picture that the page takes; no pixel is decoded."""
    with path.open("rb") as file:
        is_picture = _is_picture(file)
    if not is_picture:
        what = what_else(path)
        but = f", but {what}" if what else ""
        raise ValueError(f"{path}: no photograph{but}; expected a PNG, JPEG or WebP file")
    _check_pixels(path, limits)


def check_labelling(path: Path, limits: Limits) -> None:
    """Raises ValueError unless it is a label picture or a NumPy file of a size that can be held.

    Nothing is decoded, unpacked or unpickled.
    """
    with path.open("rb") as file:
        if _is_picture(file):
            _check_pixels(path, limits)
            return
        file.seek(0)
        start = file.read(8)
        file.seek(0)
        if start.startswith(b"\x93NUMPY"):
            size = array_bytes(path, file)
        elif start.startswith(b"PK\x03\x04"):
            size = archive_bytes(path, file)
        else:
            what = what_else(path)
            but = f", but {what}" if what else ""
            raise ValueError(
                f"{path}: no labels or scores{but}; expected a PNG of labels, or scores as .npy or "
                ".npz"
            )
    if size > limits.unpacked:
        raise ValueError(
            f"{path}: {size / 1e6:,.0f} MB in memory; expected at most "
            f"{limits.unpacked / 1e6:,.0f} MB (save the scores at the net's own resolution)"
        )


def _is_picture(file: BinaryIO) -> bool:
    return _PICTURES.match(file.read(16)) is not None


def _check_pixels(path: Path, limits: Limits) -> None:
    from PIL import Image

    with warnings.catch_warnings():
        # of Pillow, for much more than is taken here
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            width, height = image_size(path)
        except OSError as error:
            raise ValueError(f"{path}: damaged or cut off: {error} (save it again)") from None
        except ValueError as error:
            if "decompression bomb" not in str(error):
                raise
            raise ValueError(
                f"{path}: far too many pixels; expected at most {limits.pixels / 1e6:g} megapixels"
            ) from None
    if width * height > limits.pixels:
        raise ValueError(
            f"{path}: {width} x {height} are {width * height / 1e6:.1f} megapixels; expected at "
            f"most {limits.pixels / 1e6:g} (reduce it, or use deeplab-native in a terminal)"
        )
    if min(width, height) < _LEAST_SIDE:
        raise ValueError(f"{path}: {width} x {height}; expected at least {_LEAST_SIDE} each way")
