"""What a file is that is not what somebody takes it for: a failed download, an archive, text."""

from __future__ import annotations

import re
import tarfile
import zipfile
from pathlib import Path

_LOOK = 2048  # bytes of a file's start
_LFS = b"version https://git-lfs.github.com/spec/"
_PACKED = (
    (b"\x1f\x8b", "gzip", "gunzip < {} > FILE"),
    (b"BZh", "bzip2", "bunzip2 < {} > FILE"),
    (b"\xfd7zXZ\x00", "xz", "unxz < {} > FILE"),
    (b"\x28\xb5\x2f\xfd", "Zstandard", "unzstd < {} > FILE"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "7z x {}"),
    (b"Rar!\x1a\x07", "RAR", "unrar x {}"),
)
_OTHERS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x89PNG\r\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"%PDF-", "a PDF document"),
    (b"MATLAB 5.0", "a MATLAB file"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"GGUF", "a GGUF file"),
    (b"\x7fELF", "a program"),
)
_HTML = re.compile(rb"<(!doctype html|html|head|body|title|script|meta|div)\b", re.I)


def what_else(path: Path) -> str | None:
    """In words, with what to do about it in parentheses; None where nothing of this is known.

    For files whose content is not what was expected; those of torch.save and safetensors have no
    words here. Raises OSError where the file cannot be read.
    """
    with open(path, "rb") as file:
        start = file.read(_LOOK)
    if not start:
        return "empty, or truncated: a download that failed, or a full disk (get it again)"
    if start.startswith(_LFS):
        return _lfs(start)
    for front, what, tool in _PACKED:
        if start.startswith(front):
            return f"packed with {what} (unpack it first: {tool.format(path.name)})"
    for front, what in _OTHERS:
        if start.startswith(front):
            return what
    return _archive(path, start) or _text(start)


def _lfs(start: bytes) -> str:
    size = re.search(rb"^size (\d{1,18})$", start, re.M)
    of = f" of the {int(size[1]):,} bytes" if size else ""
    return f"a Git LFS pointer that stands for the file, not the file{of} (run git lfs pull)"


def _archive(path: Path, start: bytes) -> str | None:
    """Of other files, one of which may be meant."""
    try:
        if start[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
            what = "zip archive"
        elif start[257:262] == b"ustar":
            with tarfile.open(path, "r:") as archive_:
                names = [member.name for member in archive_ if member.isfile()]
            what = "tar archive"
        else:
            return None
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, NotImplementedError):
        return None
    if not names or any(n.endswith("data.pkl") for n in names) or "storages" in names:
        return None  # torch.save's own, of today and of the first versions
    if all(name.endswith(".npy") for name in names):
        return "a NumPy archive (.npz)"
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    inside = " and ".join(_quoted(name, 60) for name in names[:2]) + more
    return f"a {what} with {inside} (unpack it first, and give the file in it)"


def _text(start: bytes) -> str | None:
    plain = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    while plain.startswith(b"<!--") and (end := plain.find(b"-->")) > 0:
        plain = plain[end + 3 :].lstrip()
    if _HTML.match(plain):
        title = re.search(rb"<title[^>]*>\s*([^<]{1,200})", plain, re.I)
        says = f", titled {_quoted(title[1])}," if title else ""
        return (
            f"a web page (HTML){says} in place of the file: its download failed, or the page about "
            "it was saved (get the file itself)"
        )
    try:
        text = plain.decode()
    except UnicodeDecodeError as error:
        if error.start < len(plain) - 4:  # a letter may be cut at the end
            return None
        text = plain[: error.start].decode()
    if not all(c.isprintable() or c in "\n\r\t" for c in text):
        return None
    if plain.startswith(b"<?xml") or plain.startswith(b"<Error"):
        return f"XML that begins with {_quoted(text)}: the answer of a server (get the file again)"
    if plain[:1] in b"{[":
        return f"JSON that begins with {_quoted(text)}, as servers answer (get the file again)"
    if re.match(r"\s*(#.*\n\s*)*(name|input|input_dim|layers?|net|base_lr)\s*[:{]", text):
        return "the definition of a net as text (prototxt), not its weights (give the .caffemodel)"
    return f"text that begins with {_quoted(text)}"


def _quoted(text: str | bytes, most: int = 80) -> str:
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return repr(text if len(text) <= most else f"{text[: most - 3]}...")
