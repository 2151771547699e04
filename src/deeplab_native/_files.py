"""Output files that are written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def check_output(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` replaces (symbolic links followed).

    Call it before a long computation. Raises FileNotFoundError where the folder does not exist,
    NotADirectoryError where the folder is a file, IsADirectoryError or FileExistsError where `path`
    is something that cannot be replaced, PermissionError where the folder cannot be written to.
    """
    target = Path(os.path.realpath(path))
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


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary name in the folder of `path`; at the end the file there replaces `path`.

    The temporary name ends like `path`, for writers that choose the format by the suffix. When the
    block raises, `path` stays as it was and the temporary file is removed. Raises what
    `check_output` raises, and FileNotFoundError where the block wrote no file.

    >>> with atomic_path("labels.png") as temporary:
    ...     image.save(temporary)
    """
    target = check_output(path)
    # the form that remove_leftovers knows; no name has more than 255 bytes
    stem = os.fsdecode(os.fsencode(target.stem)[:64])
    suffix = target.suffix if len(os.fsencode(target.suffix)) <= 64 else ""
    temporary = target.with_name(f".{stem}.{secrets.token_hex(6)}{suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a crash could leave the new name with half of the file
        os.replace(temporary, target)
    except OSError as error:
        # the name that the caller knows; what fails while it writes, as on a full disk, has none
        if error.filename in (None, str(temporary)) and error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


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
    folders: Iterable[Path], files: Iterable[Path] = ()
) -> Iterator[Callable[[], None]]:
    """Within, a run may make folders and files, which go again unless it calls what is yielded.

    Only what was not there before goes: the files, and of the folders, and those that they lie in,
    the ones that are empty then.
    """
    new = [path for path in files if not path.exists()]
    made = {f for folder in folders for f in (folder, *folder.parents) if not f.exists()}
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

    Only for folders that nobody is writing to.
    """
    for folder in folders:
        for path in folder.iterdir():
            if TEMPORARY.fullmatch(path.name) and path.is_file():
                path.unlink(missing_ok=True)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Within, no other process gets here for the same folder; ValueError where one is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise ValueError(
                    f"{folder}: another run is writing there (wait for its end)"
                ) from None
            # file systems without locks: two runs would do the work twice, and spoil nothing
        yield
    finally:
        os.close(descriptor)


# what `atomic_path` names its files
TEMPORARY = re.compile(r"\..*\.[0-9a-f]{12}(\.[^.]*)?", re.DOTALL)  # a name may have lines
