"""Files that stand for much more than they are, and how much memory reading them takes."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

MEGABYTE = 1 << 20


def peak_of(work: Callable[[], object]) -> tuple[object, float]:
    """What it gives or raises, and by how many MB the process's memory grew meanwhile."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak()
    try:
        found: object = work()
    except Exception as error:
        found = error
    return found, (_peak() - before) / 1024


def _peak() -> int:
    """kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def zeros(megabytes: int) -> bytes:
    """As zlib packs them."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(bytes(MEGABYTE)) for _ in range(megabytes)]
    return b"".join(parts) + packer.flush()


def png(chunks: bytes = b"", rows: bytes | None = None, size: tuple[int, int] = (8, 8)) -> bytes:
    """A grey picture (width, height); `chunks` lie before its pixels."""
    width, height = size
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((width + 1) * height)) if rows is None else rows
    parts = chunk(b"IHDR", head), chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + check


def gif(frames: int, canvas: tuple[int, int] = (8, 8), frame: tuple[int, int] = (1, 1)) -> bytes:
    """Of 17 bytes a frame."""
    head = b"GIF89a" + struct.pack("<HH", *canvas) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    one = b"," + struct.pack("<HHHH", 0, 0, *frame) + b"\0\x02\x02\x44\x01\0"
    return head + one * frames + b";"


def tiff(pages: int) -> bytes:
    """Grey pages of 8 x 8, which share their pixels: 114 bytes each."""
    tags = ((256, 3, 8), (257, 3, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8))
    tags += ((277, 3, 1), (278, 3, 8), (279, 4, 64))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    length = 2 + len(entries) + 4
    out = [b"II*\0", struct.pack("<I", 72), bytes(64)]
    for page in range(1, pages + 1):
        follows = 72 + length * page if page < pages else 0
        out += [struct.pack("<H", len(tags)), entries, struct.pack("<I", follows)]
    return b"".join(out)


def postscript(first: bytes = b"%!PS-Adobe-3.0 EPSF-3.0") -> bytes:
    """A program for Ghostscript, which Pillow would give it to draw."""
    lines = (
        b"%!PS-Adobe-3.0", b"%%BoundingBox: 0 0 50 50", b"%%EndComments", b"showpage", b"%%EOF",
    )  # fmt: skip
    return b"\n".join((first, *lines)) + b"\n"


def array_header(shape: tuple[int, ...]) -> bytes:
    """That of a .npy file of float32."""
    head = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, about)
    return head.getvalue()


def npz(path: Path, shape: tuple[int, ...], name: str = "scores.npy", megabytes: int = 0) -> Path:
    """An archive whose array says that it has a shape, and has so many MB of zeros."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(name, "w", force_zip64=True) as member,
    ):
        member.write(array_header(shape))
        for _ in range(megabytes):
            member.write(bytes(MEGABYTE))
    return path


def torch_of_one_number(path: Path, shape: tuple[int, ...]) -> Path:
    """A tensor of a stride of 0, as torch.save writes it."""
    torch.save(torch.zeros(1).expand(shape), path)
    return path


def nifti(path: Path, shape: tuple[int, ...], *, between: int = 0, megabytes: int = 0) -> Path:
    """int16; `between`: bytes that lie between header and voxels."""
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = 352 + between, b"n+1"
    extension = b"\1\0\0\0" + struct.pack("<ii", between, 4) if between else bytes(4)
    with gzip.open(path, "wb", 9) if path.suffix == ".gz" else path.open("wb") as file:
        file.write(header.binaryblock + extension)
        for _ in range(megabytes):
            file.write(bytes(MEGABYTE))
    return path


def shard(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """A tar file whose headers say anything; packed where the name ends in gz."""
    parts = []
    for info, content in members:
        parts += [info.tobuf(tarfile.GNU_FORMAT), content, bytes(-len(content) % 512)]
    whole = b"".join(parts) + bytes(1024)
    path.write_bytes(gzip.compress(whole, 9) if path.suffix == ".gz" else whole)
    return path


def member(name: str, size: int, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info
