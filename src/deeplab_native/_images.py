"""Pictures of a user: files by their names, and pixels with every fault named."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar

import numpy as np

from ._memory import ClippedFile, check_memory
from ._picture_formats import check_regular, naming, open_picture
from ._picture_formats import picture_suffixes as picture_suffixes

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile


_BYTES_A_PIXEL = 12  # while it is read: Pillow's own pixels, in RGB, and as an array
AnyPath = TypeVar("AnyPath", bound=PurePath)


class Picture(NamedTuple):
    """A picture as it was read, and what was done to it that its pixels do not show.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        notes: a few words each, the same for all pictures of a kind.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


TURNED = "turned upright by its EXIF orientation (`exif=False` leaves it as it is stored)"
NOT_TURNED = "not turned upright, though it has an EXIF orientation"
ORIENTATION = 0x0112  # of EXIF: 1 is upright, 2 to 8 are turned or mirrored


def read_image(path: Path, *, exif: bool = True) -> np.ndarray:
    """`read_picture` without its notes."""
    return read_picture(path, exif=exif).pixels


def reduced_size(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Both sides of an image whose longer one is at most `longest_side`; None: as they are."""
    if longest_side is None or longest_side >= max(size):
        return size
    factor = longest_side / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def read_picture(path: Path, *, exif: bool = True) -> Picture:
    """Any picture that Pillow reads, as RGB of 8 bits.

    Grey and CMYK become RGB, colour profiles are not applied, transparency is left out, of 16 bits
    the upper 8 are taken, of animations the first frame.

    Args:
        path: of any name.
        exif: whether it is turned upright by its EXIF orientation, as cameras and telephones
            write it; else the pixels stay as they are stored.

    Raises FileNotFoundError, or ValueError where the file is no picture or ends too early.
    """
    with opened(path) as file:
        return _picture(file, exif)


def picture_of_bytes(stream: BinaryIO, name: str, *, exif: bool = True) -> Picture:
    """`read_picture` of a stream of bytes; `name` is what errors call it."""
    with _opened(stream, name) as file:
        return _picture(file, exif)


def _picture(file: ImageFile, exif: bool) -> Picture:
    # some kilobytes can stand for all pixels that Pillow allows
    check_memory("picture", _BYTES_A_PIXEL * file.width * file.height)
    notes = header_notes(file, exif=exif)  # which may decode them, to find an orientation
    upright = _upright(file) if exif else file
    return Picture(np.array(_rgb(upright, notes)), tuple(notes))


@contextmanager
def opened(path: Path) -> Iterator[ImageFile]:
    """A picture's file, with every fault of it as an OSError or ValueError that names it."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such picture (check the path)")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give one picture)")
    check_regular(path)
    with ClippedFile(path) as stream, _opened(stream, str(path)) as file:
        yield file


@contextmanager
def _opened(
    source: BinaryIO, path: str, none: str = "not a picture that Pillow can read (use PNG or JPEG)"
) -> Iterator[ImageFile]:
    """`opened` of a stream; none: what is said of a file that is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with open_picture(source) as file:
            yield file
    except UnidentifiedImageError:
        raise ValueError(f"{path}: {none}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too many pixels: {error} (make it smaller)") from None
    except _UnsuitableError as error:
        raise ValueError(f"{path}: {error}") from None
    except OSError as error:
        raise of_file(error, path) from None
    # what Pillow's decoders raise for broken data, each its own
    except (SyntaxError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise damaged(error, path) from None
    except AssertionError as error:  # without words, as where there is no palette
        raise damaged(ValueError(str(error) or "a part is missing"), path) from None
    except ValueError as error:
        raise naming(error, path) from None
    except MemoryError as error:
        raise MemoryError(f"{path}: {error}") from None


def of_file(error: OSError, path: object) -> Exception:
    """What to raise: the system's errors with the file's name, Pillow's as damage of the file."""
    if error.errno is None:
        return damaged(error, path)
    if error.filename is None:
        error.filename = str(path)
    return error


def damaged(error: Exception, path: object) -> ValueError:
    """What to raise for a decoder's error."""
    return ValueError(f"{path}: damaged or cut off: {error} (save it again)")


class _UnsuitableError(Exception):
    """A whole picture that cannot be used; the message lacks the file."""


def has_frames(file: ImageFile) -> bool:
    """Whether it has several frames or pages; telephones put previews behind a photograph (MPO).

    How many is not asked: Pillow would go through all of them, which of a file made for that takes
    hours.
    """
    return file.format != "MPO" and bool(getattr(file, "is_animated", False))


def header_notes(file: ImageFile, *, exif: bool) -> list[str]:
    """Those of `Picture` that are known before any pixel is."""
    notes = []
    if file.getexif().get(ORIENTATION, 1) in range(2, 9):
        notes.append(TURNED if exif else NOT_TURNED)
    if has_frames(file):
        notes.append("several frames, of which the first is read")
    return notes


def _upright(file: Image) -> Image:
    from PIL import ImageOps

    turned: Image = ImageOps.exif_transpose(file)
    return turned


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) by the file's header, before it is turned upright.

    Raises FileNotFoundError, or ValueError where the header is none of a picture.
    """
    with opened(path) as file:
        return file.width, file.height


def _rgb(image: Image, notes: list[str]) -> Image:
    if image.mode.startswith("I;16"):
        # convert("RGB") would clip at 255
        values = np.array(image)
        notes.append("16 bits a pixel, of which the upper 8 are read")
        if 0 < values.max(initial=0) < 4096:
            raise _UnsuitableError(
                f"16 bits a pixel, but no value above {values.max()}: with the upper 8 bits alone "
                "it would be black (stretch it to 0..65535, or save it with 8 bits)"
            )
        return fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise _UnsuitableError(
            f"pictures of mode {image.mode} have no fixed range (save it with 8 bits)"
        )
    if "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("RGBA", "LA", "PA") and np.asarray(image.getchannel("A")).min() < 255:
        notes.append("transparency, which is left out")
    if image.mode == "CMYK":
        notes.append("printing colours (CMYK), taken as RGB without their profile")
    try:
        return image.convert("RGB")
    except ValueError as error:  # as of LAB
        raise _UnsuitableError(f"mode {image.mode}: {error} (save it as RGB)") from None


def fromarray(values: np.ndarray) -> Image:
    from PIL import Image as Pillow

    return Pillow.fromarray(values)


# How Pillow scales the values of grey PNGs of 2 and 4 bits to 0..255
_GREY_STEP = {2: 85, 4: 17}


def read_index_png(path: Path) -> np.ndarray:
    """(H, W) uint8: the pixel values of a PNG as they are stored, palette indices or grey levels.

    A palette's colours mean nothing here, values of 1, 2 or 4 bits are not scaled, and an EXIF
    orientation, which labels do not have, is not applied.

    Raises FileNotFoundError, or ValueError where the file is no PNG, ends too early, holds colours
    or more than 8 bits.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such label PNG (check the path)")
    check_regular(path)
    none = "not a PNG (save the labels as PNG)"
    with ClippedFile(path) as stream, _opened(stream, str(path), none) as file:
        if file.format != "PNG":
            raise ValueError(
                f"{path}: labels in a {file.format} file, which may be lossy (save them as PNG)"
            )
        if file.mode not in ("P", "L", "1"):
            raise ValueError(
                f"{path}: a PNG of mode {file.mode} holds no label indices of 8 bits "
                "(save it with a palette or in grey, the pixel value being the class)"
            )
        return index_values(file, path)


def index_values(file: Image, path: Path) -> np.ndarray:
    """(H, W) uint8 of an open picture of mode P, L or 1: what is stored."""
    values: np.ndarray = np.array(file).astype(np.uint8)
    if file.mode == "L" and file.format == "PNG":
        values //= np.uint8(_GREY_STEP.get(_png_bits(path), 1))
    return values


def _png_bits(path: Path) -> int:
    """Bits of a sample: byte 24 of every PNG (its first chunk is IHDR, by the specification)."""
    with path.open("rb") as file:
        return file.read(25)[24]


def by_stem(folder: Path, suffixes: Collection[str], what: str) -> dict[str, Path]:
    """The files of a folder with one of the suffixes, by their names without suffix, sorted.

    Raises NotADirectoryError or FileNotFoundError for the folder, ValueError where none is there
    (`what` names them) or two have the same name.
    """
    there = (p for p in sorted(folder.iterdir()) if p.suffix.lower() in suffixes)
    return named_once(folder, (path for path in there if not path.is_dir()), suffixes, what)


def named_once(
    folder: object, paths: Iterable[AnyPath], suffixes: Collection[str], what: str
) -> dict[str, AnyPath]:
    """`by_stem` of the paths in a folder that are known already, in their order."""
    found: dict[str, AnyPath] = {}
    for path in paths:
        if path.name.startswith(".") or path.suffix.lower() not in suffixes:
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
