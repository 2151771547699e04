"""Output files that are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PurePath


def check_output(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` replaces.

    A symbolic link in its place is followed within its own folder; one that leads out of it could
    be anybody's, with a file that nobody named at its end.

    Call it before a long computation. Raises FileNotFoundError where the folder does not exist,
    NotADirectoryError where the folder is a file, IsADirectoryError or FileExistsError where `path`
    is something that cannot be replaced, or a link out of its folder, PermissionError where the
    folder cannot be written to.
    """
    target = Path(os.path.realpath(path))
    if os.path.islink(path) and not target.is_relative_to(os.path.realpath(Path(path).parent)):
        raise FileExistsError(
            f"{path} is a symbolic link out of its folder, to {target} (give that name, or remove "
            "the link)"
        )
    folder = target.parent
    if not folder.exists():
        raise FileNotFoundError(f"{path}: the folder {folder} does not exist (create it first)")
    if not folder.is_dir():
        raise NotADirectoryError(f"{path}: {folder} is a file, not a folder (give another name)")
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give a file name)")
    if target.exists() and not target.is_file():
        raise FileExistsError(f"{path} is not a regular file (give another name)")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: the folder {folder} cannot be written to (give another)")
    return target


def check_inside(folder: Path, paths: Iterable[Path]) -> None:
    """ValueError where a path below `folder` leads out of it, by a symbolic link in between.

    The folder itself may be a link: that is the choice of who named it.
    """
    real = os.path.realpath(folder)
    for path in paths:
        target = Path(os.path.realpath(path))
        if path.is_relative_to(folder) and not target.is_relative_to(real):
            raise ValueError(
                f"{path}: leads out of {folder}, to {target}, by a symbolic link (remove it)"
            )


def below(folder: Path, name: str, where: object) -> Path:
    """The place of a name that some file has; ValueError where it leads out of the folder.

    where: what has the name, for the error.
    """
    parts = PurePath(name).parts
    if not parts or os.path.isabs(name) or ".." in parts or "\0" in name:
        raise ValueError(f"{where}: {name[:80]!r} leads out of {folder} (give names in it)")
    return folder / name


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary name in the folder of `path`; at the end the file there replaces `path`.

    The temporary name ends like `path`, for writers that choose the format by the suffix; it is an
    empty file, to be written over in its place. When the block raises, `path` stays as it was and
    the temporary file is removed; what a killed process left of the same `path` is removed, too.
    Raises what `check_output` raises, and FileNotFoundError where the block wrote no file.

    >>> with atomic_path("labels.png") as temporary:
    ...     image.save(temporary)
    """
    target = check_output(path)
    _remove_leftovers_of(target)
    try:
        temporary, lock = _make_temporary(target)
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise
    try:
        yield temporary
        with temporary.open("rb+") as file:
            if os.fstat(file.fileno()).st_mtime_ns == 0:
                raise FileNotFoundError(errno.ENOENT, "nothing was written", str(path))
            os.fsync(file.fileno())  # or a crash could leave the new name with half of the file
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        # the name that the caller knows; what fails while it writes, as on a full disk, has none
        if error.filename in (None, str(temporary)) and error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(lock)


def _make_temporary(target: Path) -> tuple[Path, int]:
    """An empty file beside `target`, and its descriptor: locked while this process writes it."""
    while True:
        # the form of TEMPORARY
        stem, suffix = _short(target)
        path = target.with_name(f".{stem}.{secrets.token_hex(6)}{suffix}")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):  # another process took it for dead before it was locked
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                os.utime(descriptor, ns=(0, 0))  # so that it shows whether it was written
                return path, descriptor
        os.close(descriptor)


def _short(target: Path) -> tuple[str, str]:
    """What of its name goes into that of a temporary file: no name has more than 255 bytes."""
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= 64 else ""
    return os.fsdecode(os.fsencode(target.stem)[:64]), suffix


def _sync_folder(folder: Path) -> None:
    """Names in it are on the disk when this returns, where the file system can do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_leftovers: dict[Path, dict[str, list[Path]]] = {}
"""Of folders that this process has written to: temporary files that were there, by their target."""
_MOST_FOLDERS = 256  # that are remembered; a server writes to a new one with every upload


def _remove_leftovers_of(target: Path) -> None:
    """Removes those of one file that no process is writing; a folder is looked through once."""
    folder = target.parent
    found = _leftovers.get(folder)
    if found is None:
        found = {}
        for path in _temporary_files(folder):
            stem, suffix = TEMPORARY.fullmatch(path.name).groups("")  # type: ignore[union-attr]
            found.setdefault(stem + suffix, []).append(path)
        with suppress(RuntimeError):  # another thread remembers one
            while len(_leftovers) >= _MOST_FOLDERS:
                _leftovers.pop(next(iter(_leftovers)), None)
        _leftovers[folder] = found
    for path in found.pop("".join(_short(target)), ()):
        _remove_unless_written(path, without_locks=False)


def _temporary_files(folder: Path) -> list[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [
            folder / entry.name
            for entry in entries
            if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
        ]
    return []


def _remove_unless_written(path: Path, *, without_locks: bool) -> None:
    """Removes a temporary file, unless a living process is writing it.

    `without_locks`: whether also where the file system does not say.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # gone, or somebody else's
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES) or not without_locks:
                return
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Within, errors of the system that have no file's name, as those of `write`, get this one."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str) and error.errno is not None:
            error.filename = str(path)
        raise


@contextmanager
def nothing_left(
    folders: Iterable[Path], files: Iterable[Path] = (), *, alone_in: Path | None = None
) -> Iterator[Callable[[], None]]:
    """Within, a run may make folders and files, which go again unless it calls what is yielded.

    Only what was not there before goes: the files, and of the folders, and those that they lie in,
    the ones that are empty then. `alone_in`: a folder that is this run's alone, see `sole_writer`;
    of one that another run has, nothing is touched.
    """
    made = {f for folder in folders for f in (folder, *folder.parents) if not f.exists()}
    with nullcontext() if alone_in is None else sole_writer(alone_in):
        new = [path for path in files if not path.exists()]
        successes: list[None] = []
        try:
            yield lambda: successes.append(None)
        finally:
            if not successes:
                with suppress(OSError):
                    for path in new:
                        path.unlink(missing_ok=True)
                for folder in sorted(made, key=lambda path: len(path.parts), reverse=True):
                    with suppress(OSError):  # it is not empty, or was never made
                        folder.rmdir()


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Removes the temporary files of `atomic_path` whose process was killed.

    Only for folders that nobody else is writing to: not all file systems say who is.
    """
    for folder in folders:
        for path in _temporary_files(folder):
            _remove_unless_written(path, without_locks=True)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Makes a folder; within, no other process gets here for it. ValueError where one is."""
    descriptor = _locked_folder(folder)
    _locks.add(descriptor)
    try:
        yield
    finally:
        if descriptor in _locks:  # or this is a forked child
            _locks.discard(descriptor)
            os.close(descriptor)


def _locked_folder(folder: Path) -> int:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                os.close(descriptor)
                raise ValueError(
                    f"{folder}: another run is writing there (wait for its end)"
                ) from None
            # file systems without locks: two runs would do the work twice, and spoil nothing
        with suppress(FileNotFoundError):  # the one before has just removed it, as it was empty
            if os.path.samestat(folder.stat(), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


_locks: set[int] = set()  # descriptors of folders that are locked


def _leave_locks() -> None:
    """A forked child that outlives its parent must not keep the folder locked."""
    for descriptor in _locks:
        os.close(descriptor)
    _locks.clear()


os.register_at_fork(after_in_child=_leave_locks)


# what `atomic_path` names its files
TEMPORARY = re.compile(r"\.(.*)\.[0-9a-f]{12}(\.[^.]*)?", re.DOTALL)  # a name may have lines
