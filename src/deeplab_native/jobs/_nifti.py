"""NIfTI files: volumes with the size of their voxels and where they lie in the world.

nibabel, of the extra `medical`, is imported where a file is read or written, not before.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._files import atomic_path
from .._memory import check_memory, check_unpacked
from .._picture_formats import check_regular

SUFFIXES = (".nii", ".nii.gz")
_MOST_PACKED = 1032  # bytes that gzip makes of one, at most
_MOST_EXTENSIONS = 1 << 26  # bytes between header and voxels
_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}


class Volume(NamedTuple):
    """What a file holds.

    Attributes:
        values: (X, Y, Z) or (X, Y, Z, C), in nibabel's order of the axes; floats or integers.
        spacing: of voxels along X, Y and Z, in millimetres.
        image: nibabel's, for its affine and header.
        notes: what should be known of them.
    """

    values: np.ndarray
    spacing: tuple[float, float, float]
    image: Any
    notes: tuple[str, ...]


def is_volume(path: Path) -> bool:
    """Whether its name says so."""
    return path.name.lower().endswith(SUFFIXES)


def stem_of(path: Path) -> str:
    """The name without .nii or .nii.gz."""
    suffix = next(s for s in (".nii.gz", ".nii") if path.name.lower().endswith(s))
    return path.name[: -len(suffix)]


def check_nibabel() -> None:
    """Raises ImportError, with what to do, where it is missing."""
    if find_spec("nibabel") is None:
        raise ImportError(
            "nibabel is missing, which reads and writes NIfTI files (install it with pip install "
            "'deeplab_native[medical]')"
        )


def read_volume(path: Path) -> Volume:
    """Raises ImportError; FileNotFoundError; ValueError for a file that is none, or damaged."""
    check_nibabel()
    import nibabel

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such volume (check the path)")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give one volume)")
    check_regular(path)
    packed = path.name.lower().endswith(".gz")
    with _errors(path):
        _check_extensions(path, packed)
        image: Any = nibabel.load(path)
        dtype, size = image.get_data_dtype(), _bytes_of(image)
    if dtype.kind not in "fiub":  # colours, complex numbers
        raise ValueError(f"{path}: expected voxels of numbers, got {dtype} (save plain ones)")
    in_file = math.prod(map(int, image.shape)) * dtype.itemsize
    if packed:
        check_unpacked(path, size)
        _check_size(path, in_file, _MOST_PACKED)
    else:
        _check_size(path, in_file)
        check_memory(str(path), size)
    with _errors(path):
        values = np.asarray(image.dataobj)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ValueError(
            f"{path}: expected a volume (X, Y, Z) or (X, Y, Z, channels), got {values.shape} "
            "(save one)"
        )
    spacing, notes = _spacing(path, image)
    return Volume(values, spacing, image, notes)


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """What nibabel and gzip raise for broken data, in our words."""
    import nibabel

    try:
        yield
    except (
        nibabel.filebasedimages.ImageFileError,
        nibabel.spatialimages.HeaderDataError,
        OSError,
        EOFError,
        ValueError,
        OverflowError,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path}: no NIfTI file, damaged or cut off: {type(error).__name__} (save it again)"
        ) from None


def _check_size(path: Path, size: int, times: int = 1) -> None:
    """ValueError where a file cannot have the bytes of voxels that its header says."""
    there = path.stat().st_size
    if size > there * times:
        raise ValueError(
            f"{path}: damaged or cut off: {size:,} bytes of voxels by its header, and the file has "
            f"{there:,} (save it again)"
        )


def _check_extensions(path: Path, packed: bool) -> None:
    """ValueError where what is between header and voxels is too much, or less than it says.

    nibabel reads all of it, and makes room for what each extension says of its own size.
    """
    import nibabel

    with gzip.open(path) if packed else path.open("rb") as file:
        start = file.read(540)
        sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
        kind: Any = nibabel.Nifti2Header if 540 in sizes else nibabel.Nifti1Header
        length = kind.template_dtype.itemsize
        if len(start) < length:
            raise EOFError
        header: Any = kind(start[:length], check=False)
        begin = header["vox_offset"]
        if packed and not 0 <= begin <= _MOST_EXTENSIONS:
            raise ValueError
        file.seek(length)
        if file.read(4)[:1] in (b"", b"\0"):  # none
            return
        end = begin if begin > length + 4 else math.inf  # nibabel reads on to the file's
        most = min(end, _MOST_EXTENSIONS) if packed else end
        order: Any = "little" if header.endianness == "<" else "big"
        while file.tell() + 16 <= end and (size := file.read(4)):
            after = file.tell() - 4 + int.from_bytes(size, order, signed=True)
            if not file.tell() + 4 <= after <= most:
                raise ValueError
            file.seek(after - 1)
            if not file.read(1):  # it ends before
                raise ValueError


def _bytes_of(image: Any) -> int:
    """Of the voxels in memory, where scaled ones are float64; ValueError where there is no such."""
    size = max(
        image.get_data_dtype().itemsize, image.header.get_slope_inter() != (None, None) and 8
    )
    for length in image.shape:
        if length < 0:
            raise ValueError
        size *= int(length)
    return int(size)


def _spacing(path: Path, image: Any) -> tuple[tuple[float, float, float], tuple[str, ...]]:
    """In millimetres, of the header's zooms."""
    try:
        unit = image.header.get_xyzt_units()[0]
    except KeyError:  # a number that stands for none, of length or of time
        unit = "unknown"
    notes = []
    if unit == "unknown":
        notes.append("the header has no unit of length; taken for mm")
    zooms = np.array(image.header.get_zooms()[:3], float)
    if not (np.isfinite(zooms) & (zooms > 0)).all():
        raise ValueError(f"{path}: voxels of {zooms.tolist()} in its header (mend its zooms)")
    of_affine = np.sqrt((np.asarray(image.affine)[:3, :3] ** 2).sum(0))
    if not np.allclose(zooms, of_affine, rtol=1e-2):
        by_affine = " x ".join(f"{size:g}" for size in of_affine)
        notes.append(f"voxels are {by_affine} by the affine, another size than the header's zooms")
    x, y, z = (float(np.float32(zoom)) * _MILLIMETRES[unit] for zoom in zooms)
    return (x, y, z), tuple(notes)


def write_labels(path: Path, labels: np.ndarray, like: Any) -> None:
    """(X, Y, Z) uint8 with the affine, orientation and units of an image; whole or not at all."""
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0
    header.set_intent("label")
    content = type(like)(labels, like.affine, header).to_bytes()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # without the name and the time: the same labels are the same bytes
            with gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
                packed.write(content)
        else:
            file.write(content)
