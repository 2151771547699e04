"""Which of Pillow's formats are read, and how their files are opened."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# Those whose pixels another program makes (Ghostscript, Windows' own), or code that some other
# package registered: a file could be written for the faults of these
_BY_OTHERS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5"})


@cache
def picture_formats() -> tuple[str, ...]:
    """Pillow's names of those that Pillow reads by itself."""
    from PIL import Image

    Image.init()
    return tuple(name for name in Image.ID if name not in _BY_OTHERS)


def picture_suffixes() -> set[str]:
    """Of all that is read, in lower case."""
    from PIL import Image

    known = set(picture_formats())
    return {s for s, kind in Image.registered_extensions().items() if kind in known}


def open_picture(source: Path | BinaryIO) -> ImageFile:
    """`PIL.Image.open` of these formats alone; raises what it does."""
    from PIL import Image

    return Image.open(source, formats=picture_formats())


def check_regular(path: Path) -> None:
    """ValueError for a pipe or device: opening it would wait for somebody to write."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: no regular file (give one)")


def naming(error: ValueError, path: object) -> ValueError:
    """With the file, which Pillow's own lack, as of a text in it that unpacks to too much."""
    if str(path) in str(error):
        return error
    return ValueError(f"{path}: damaged: {error} (save it again)")
