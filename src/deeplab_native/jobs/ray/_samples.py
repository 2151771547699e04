"""The images of a unit, one after the other, as bytes or files, and what is wrong with them."""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from ..._errors import one_line
from ..._images import picture_suffixes
from ..._memory import check_unpacked
from .._score_files import SUFFIXES as ARRAYS
from ._inputs import Unit
from ._parquet import ShardError as ShardError
from ._parquet import open_parquet
from ._store import local_path, open_url

_MOST_ABOUT = 1 << 20  # bytes of a header of a tar member: its name, owner, times
_ABOUT_THE_NEXT = {
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
}
_MOST_PAST = 16  # reads past the end of a tar
_ROWS = 32  # of a Parquet file that are read at a time


@dataclass(frozen=True)
class Columns:
    """Where image, key and scores are: columns of Parquet, suffixes of a shard's members.

    image: None: the column "image", of tar shards the member that is a picture.
    key: of Parquet.
    scores: None: the column "scores", of tar shards the member that is an array, or else a PNG
        beside a picture of another format.
    """

    image: str | None = None
    key: str = "key"
    scores: str | None = None


class Sample(NamedTuple):
    """An image before anybody has looked at it; with an `error` it has none."""

    key: str
    image: bytes | Path = b""
    scores: bytes | Path | None = None
    input: str | None = None  # of a file its own, else the shard
    state: str | None = None
    error: str | None = None


def samples(unit: Unit, columns: Columns, *, refine: bool) -> Iterator[Sample]:
    """All of a unit but those that it keeps; raises ShardError where no more can be read."""
    reader = {"files": _of_files, "tar": _of_tar, "parquet": _of_parquet}[unit.kind]
    seen: set[str] = set()
    for sample in reader(unit, columns, refine):
        if sample.key in seen:
            yield Sample(f"{sample.key}", error="its key is twice in the shard (the first is used)")
        elif sample.key not in unit.keep:
            yield sample
        seen.add(sample.key)


@contextmanager
def as_file(source: bytes | Path) -> Iterator[Path]:
    """A path that has the bytes, in memory and gone with the process."""
    if isinstance(source, Path):
        yield source
        return
    descriptor = os.memfd_create("deeplab_native")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(source)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _of_files(unit: Unit, columns: Columns, refine: bool) -> Iterator[Sample]:
    for key, image, scores, state in unit.members:
        if key in unit.keep:
            yield Sample(key)
            continue
        try:
            content = _content(image)
            beside = None if scores is None else _content(scores)
            yield Sample(key, content, beside, image, state)
        except Exception as error:
            yield Sample(key, input=image, state=state, error=one_line(error))


def _content(url: str) -> bytes | Path:
    local = local_path(url)
    if local is not None:
        return local
    with open_url(url) as file:
        return file.read()


class _Info(tarfile.TarInfo):
    """As tarfile's own, but it says where it sees the archive's end, and takes no long names."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Info:
        found = super().frombuf(buf, encoding, errors)
        # such headers are read whole, and packed they can have any length
        if found.type in _ABOUT_THE_NEXT and found.size > _MOST_ABOUT:
            raise tarfile.SubsequentHeaderError(f"a header of {found.size} bytes")  # type: ignore[attr-defined]
        return found

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Info:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            if isinstance(archive, _Tar):
                archive.ended = True
            raise


class _Ending(io.RawIOBase):
    """A file that has an end: tarfile skips the exabytes that a member may claim by reading on."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__()
        self._file, self._past = file, 0

    def read(self, size: int = -1, /) -> bytes:
        content = self._file.read(size)
        self._past += not content
        if self._past > _MOST_PAST:
            raise tarfile.ReadError("unexpected end of data")
        return content


class _Tar(tarfile.TarFile):
    """Whose end is known: tarfile takes the end of the file for it."""

    tarinfo = _Info
    ended = False


def _of_tar(unit: Unit, columns: Columns, refine: bool) -> Iterator[Sample]:
    """Members of one name up to the first dot, which follow each other, are a sample."""
    last: str | None = None
    members: dict[str, bytes | str] = {}  # by suffix: content, or why there is none
    try:
        with (
            open_url(unit.url) as file,
            _Tar.open(fileobj=_Ending(file), mode="r|*") as tar,
        ):
            for info in tar:
                if not info.isfile():
                    continue
                folder, _, name = info.name.removeprefix("./").rpartition("/")
                stem, _, suffix = name.partition(".")
                if not stem:  # a hidden file
                    continue
                key = f"{folder}/{stem}" if folder else stem
                if key != last and last is not None:
                    yield _sample(last, members, columns, refine)
                    members = {}
                last = key
                if key in unit.keep or not _is_wanted(suffix, columns, refine):
                    members.setdefault(suffix.lower(), b"")
                else:
                    members[suffix.lower()] = _content_of(tar, info, name)
            if not tar.ended:
                raise tarfile.ReadError("its end is missing")
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if last is not None and not isinstance(_sample(last, members, columns, refine).error, str):
            yield _sample(last, members, columns, refine)
        raise ShardError(f"damaged or cut off: {one_line(error)} (write it again)") from None
    if last is not None:
        yield _sample(last, members, columns, refine)


def _content_of(tar: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> bytes | str:
    """Of a member, or why it is not read."""
    if info.issparse():
        return f"{name}: a sparse member, which has more bytes than the shard (write it whole)"
    try:
        check_unpacked(name, info.size)
    except (ValueError, MemoryError) as error:
        return str(error)
    content = tar.extractfile(info)
    return b"" if content is None else content.read()


def _is_wanted(suffix: str, columns: Columns, refine: bool) -> bool:
    end = PurePosixPath(f"x.{suffix.lower()}").suffix
    if suffix in (columns.image, columns.scores) or end in picture_suffixes():
        return True
    return refine and end in ARRAYS


def _sample(key: str, members: Mapping[str, bytes | str], columns: Columns, refine: bool) -> Sample:
    ends = {suffix: PurePosixPath(f"x.{suffix}").suffix for suffix in members}
    arrays = [s for s in members if ends[s] in ARRAYS]
    pictures = [s for s in members if ends[s] in picture_suffixes()]
    # a mask, where there are no scores: the one that is not lossy
    masks = [s for s in pictures if ends[s] == ".png"] if refine and len(pictures) == 2 else []
    scores = [columns.scores] if columns.scores else arrays or masks
    image = [columns.image] if columns.image else [s for s in pictures if s not in scores]
    there = ", ".join(sorted(members))
    for what, found, wanted in (("picture", image, True), ("scores", scores, refine)):
        if wanted and not (len(found) == 1 and found[0] in members):
            several = f"several {what if what == 'scores' else 'pictures'}, of which"
            problem = f"{several} `image_column` is to choose" if len(found) > 1 else f"no {what}"
            return Sample(key, error=f"{problem} among its members ({there})")
    chosen = [members[image[0]], members[scores[0]] if refine else b""]
    for content in chosen:
        if isinstance(content, str):
            return Sample(key, error=content)
    content, beside = (c for c in chosen if isinstance(c, bytes))
    return Sample(key, content, beside if refine else None)


def _of_parquet(unit: Unit, columns: Columns, refine: bool) -> Iterator[Sample]:
    import pyarrow as pa

    names = [columns.key, columns.image or "image", *[columns.scores or "scores"] * refine]
    try:
        with open_url(unit.url) as file:
            parquet = open_parquet(file)
            for batch in parquet.iter_batches(_ROWS, row_groups=[unit.row_group], columns=names):
                lists = (batch.column(name).to_pylist() for name in names)
                for key, *values in zip(*lists, strict=True):
                    yield _of_row(str(key), [_bytes(v) for v in values])
    except (pa.ArrowException, OSError, EOFError, KeyError, IndexError) as error:
        raise ShardError(f"damaged or cut off: {one_line(error)} (write it again)") from None


def _of_row(key: str, values: list[bytes | None]) -> Sample:
    image, *scores = values
    if image is None or None in scores:
        return Sample(key, error="no picture" if image is None else "no scores")
    return Sample(key, image, scores[0] if scores else None)


def _bytes(value: Any) -> bytes | None:
    """Of a column of bytes, or of Hugging Face's pictures: {"bytes": ..., "path": ...}."""
    content = value.get("bytes") if isinstance(value, Mapping) else value
    return content if isinstance(content, bytes) else None


def parquet_groups(url: str, columns: Columns, *, refine: bool) -> list[int]:
    """Images of each row group.

    Raises ShardError for a file that cannot be read, ValueError where it has no such columns.
    """
    import pyarrow as pa

    try:
        with open_url(url) as file:
            about = open_parquet(file)
            there = about.schema_arrow.names
            groups = [about.metadata.row_group(i).num_rows for i in range(about.num_row_groups)]
    except (pa.ArrowException, OSError, EOFError) as error:
        raise ShardError(f"damaged or cut off: {one_line(error)} (write it again)") from None
    wanted = {"key_column": columns.key, "image_column": columns.image or "image"}
    wanted |= {"scores_column": columns.scores or "scores"} if refine else {}
    for argument, name in wanted.items():
        if name not in there:
            raise ValueError(
                f"`{argument}` {name}: {url} has no such column (it has {', '.join(there)})"
            )
    return groups
