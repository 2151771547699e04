"""Pictures of a user: files by their names, and pixels with every fault named."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image


def read_image(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of any picture that Pillow reads, turned upright by its EXIF data.

    Raises FileNotFoundError, or ValueError where the file is no picture or ends too early.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such picture (check the path)")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give one picture)")
    try:
        with Image.open(path) as file:
            return np.array(_rgb(ImageOps.exif_transpose(file)))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a picture that Pillow can read (use PNG or JPEG)") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too many pixels: {error} (make it smaller)") from None
    except PermissionError:
        raise
    # what Pillow's decoders raise for broken data, each its own
    except (OSError, SyntaxError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise ValueError(f"{path}: damaged or cut off: {error} (save it again)") from None


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) by the file's header, before it is turned upright.

    Raises FileNotFoundError, or ValueError where the header is none of a picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            return file.width, file.height
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"{path}: {error}") from None


def _rgb(image: Image) -> Image:
    if image.mode.startswith("I;16"):
        # convert("RGB") would clip at 255
        return image.point(lambda v: v / 256).convert("L").convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pictures of mode {image.mode} have no fixed range (save it with 8 bits)")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


# How Pillow scales the values of grey PNGs of 2 and 4 bits to 0..255
_GREY_STEP = {2: 85, 4: 17}


def read_index_png(path: Path) -> np.ndarray:
    """(H, W) uint8: the pixel values of a PNG as they are stored, palette indices or grey levels.

    A palette's colours mean nothing here, and values of 1, 2 or 4 bits are not scaled.

    Raises FileNotFoundError, or ValueError where the file is no PNG, ends too early, holds colours
    or more than 8 bits.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such label PNG (check the path)")
    try:
        with Image.open(path) as file:
            if file.format != "PNG":
                raise ValueError(
                    f"{path}: labels in a {file.format} file, which may be lossy (save them as PNG)"
                )
            if file.mode not in ("P", "L", "1"):
                raise ValueError(
                    f"{path}: a PNG of mode {file.mode} holds no label indices of 8 bits "
                    "(save it with a palette or in grey, the pixel value being the class)"
                )
            values = np.array(file).astype(np.uint8)
            if file.mode == "L":
                values //= np.uint8(_GREY_STEP.get(_png_bits(path), 1))
            return values
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not a PNG (save the labels as PNG)") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too many pixels: {error} (make it smaller)") from None
    except PermissionError:
        raise
    except (OSError, SyntaxError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise ValueError(f"{path}: damaged or cut off: {error} (save it again)") from None


def _png_bits(path: Path) -> int:
    """Bits of a sample: byte 24 of every PNG (its first chunk is IHDR, by the specification)."""
    with path.open("rb") as file:
        return file.read(25)[24]


def picture_suffixes() -> set[str]:
    """Of all that Pillow reads, in lower case."""
    from PIL import Image

    Image.init()
    return {s for s, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def by_stem(folder: Path, suffixes: Collection[str], what: str) -> dict[str, Path]:
    """The files of a folder with one of the suffixes, by their names without suffix, sorted.

    Raises NotADirectoryError or FileNotFoundError for the folder, ValueError where none is there
    (`what` names them) or two have the same name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes or path.is_dir():
            continue
        other = found.setdefault(path.stem, path)
        if other != path:
            raise ValueError(
                f"{folder}: {other.name} and {path.name} have the same name but for the suffix "
                "(keep one of them)"
            )
    if not found:
        raise ValueError(f"{folder}: no {what} in this folder (give the folder that has them)")
    return found
