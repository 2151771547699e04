"""Files here and elsewhere by their URLs, through fsspec; each is written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from ..._files import TEMPORARY, atomic_path, check_inside

# What is stored there appears when all of it is there: no other name is needed before
_WHOLE_AT_ONCE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"}
_AT_THE_SAME_TIME = 16  # small files that are read from a store


@lru_cache(maxsize=64)
def _filesystem(url: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    fs, path = url_to_fs(url)
    return fs, path


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of fsspec for a URL or a path, and the path there.

    Raises ValueError for an unknown protocol, ImportError where its package is missing.
    """
    return _filesystem(url)


def local_path(url: str) -> Path | None:
    """The path, where the URL is of a file of this machine."""
    fs, path = filesystem(url)
    return Path(path) if "file" in _protocols(fs) else None


def open_url(url: str) -> IO[bytes]:
    """To read; raises OSError."""
    local = local_path(url)
    if local is not None:
        return local.open("rb")
    fs, path = filesystem(url)
    opened: IO[bytes] = fs.open(path, "rb")
    return opened


def state_of_info(info: Mapping[str, Any]) -> str:
    """How large and how old a file is, or its version: other ones make other results."""
    known = ("mtime", "ETag", "etag", "LastModified", "last_modified", "updated", "modified")
    version = next((str(info[name]) for name in known if info.get(name) is not None), "")
    return f"{info.get('size')} {version}".rstrip()


class Store:
    """The folder of a run's results: files by their names in it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, self._root = filesystem(url)
        self.local = local_path(url)

    def path(self, name: str = "") -> str:
        """As the file system has it."""
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def exists(self, name: str = "") -> bool:
        return bool(self._fs.exists(self.path(name)))

    def is_folder(self) -> bool:
        return bool(self._fs.isdir(self.path()))

    def read(self, name: str) -> bytes:
        content: bytes = self._fs.cat_file(self.path(name))
        return content

    def read_many(self, names: Iterable[str]) -> Iterator[bytes]:
        """In their order."""
        with ThreadPoolExecutor(_AT_THE_SAME_TIME) as pool:
            yield from pool.map(self.read, names)

    def names(self, folder: str) -> list[str]:
        """Of all files below a folder, sorted; none where it is not there."""
        base = self.path()
        self._fs.invalidate_cache()
        found = self._fs.find(self.path(folder)) if self.exists(folder) else []
        names = sorted(path[len(base) :].lstrip("/") for path in found)
        return [name for name in names if not name.rpartition("/")[2].startswith(".")]

    def write(self, name: str, content: bytes) -> None:
        """In place of what is there; nobody ever sees a part of it.

        Elsewhere than here and in object stores it gets a temporary name and is then moved: where
        that is not atomic, a file may be cut off, of which nothing says that it is finished.
        """
        if self.local is not None:
            here = self.local / name
            check_inside(self.local, [here.parent])
            here.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(here) as new:
                new.write_bytes(content)
            return
        target, (folder, _, last) = self.path(name), self.path(name).rpartition("/")
        self._fs.makedirs(folder, exist_ok=True)
        if _WHOLE_AT_ONCE & _protocols(self._fs):
            self._fs.pipe_file(target, content)
            return
        temporary = f"{folder}/.{last}.{secrets.token_hex(6)}.part"
        try:
            self._fs.pipe_file(temporary, content)
            self._fs.mv(temporary, target)
        finally:
            if self._fs.exists(temporary):
                self._fs.rm_file(temporary)

    def remove(self, folders: Iterable[str]) -> None:
        """Folders with all that is in them, and files, where they are there."""
        for name in folders:
            if self.exists(name):
                self._fs.rm(self.path(name), recursive=True)

    def remove_leftovers(self, folders: Iterable[str]) -> None:
        """The temporary files of workers that were killed."""
        for folder in folders:
            for path in self._fs.find(self.path(folder)) if self.exists(folder) else []:
                if TEMPORARY.fullmatch(path.rpartition("/")[2]):
                    self._fs.rm_file(path)


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
