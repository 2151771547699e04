"""What a folder of results holds: whether files are whole, what was finished, what is the same."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from python_tests.jobs.ray_cases import states

NORMALISED = {
    "*.html": "dates and times taken",
    "best.json": "seconds taken",
    "run.json": "the name of the run",
    "training.csv": "images a second",
    "*.sqlite": "all rows, but for seconds taken and ages of files",
    "checkpoints": "the newest; of a run that was told to end, the one before is of then",
    "tensorboard": "not compared: an events file for each start, with times of day",
}
"""What is not compared byte for byte, and what of it is left out."""
_TIMES = re.compile(rb"<time .*?</time>|[\d,.]+ (?:s|ms|seconds|minutes|images a second)\b")
_EVENTS = "tensorboard"
_LOGS = ("training.csv", "validation.csv")


def files_in(out: Path) -> Iterator[Path]:
    """All files, but those of TensorBoard; links are files."""
    for path in sorted(out.rglob("*")):
        if (path.is_file() or path.is_symlink()) and path.parent.name != _EVENTS:
            yield path


def is_temporary(path: Path) -> bool:
    """Whether it is nobody's result: hidden, or SQLite's journal."""
    return path.name.startswith(".") or path.name.endswith("-journal")


def contents(out: Path) -> dict[str, str]:
    """Digest of what each file says, by its name, see NORMALISED; temporary files, too."""
    old = {path for path in out.rglob("checkpoints/iteration_*") if not _is_newest(path)}
    return {str(p.relative_to(out)): _digest(p) for p in files_in(out) if p not in old}


def _is_newest(path: Path) -> bool:
    return path == max(path.parent.glob("iteration_*"))


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"-> {path.readlink()}"
    return sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".html":
        return _TIMES.sub(b"", content)
    if path.name == "best.json":
        return repr(sorted((json.loads(content) | {"seconds": 0}).items())).encode()
    if path.name == "training.csv":
        rows = list(csv.reader(io.StringIO(content.decode())))
        speed = rows[0].index("images_per_second")
        return repr([row[:speed] + row[speed + 1 :] for row in rows]).encode()
    if path.name == "run.json":
        return repr(sorted((json.loads(content) | {"run": ""}).items())).encode()
    if path.suffix == ".sqlite":
        return repr(sorted(_rows(path))).encode()
    return content


def _rows(path: Path) -> list[tuple[str, ...]]:
    """Of all tables of a record."""
    with _opened(path) as database:
        found = []
        for table in ("about", "images", "counts"):
            for row in database.execute(f"SELECT * FROM {table}"):
                found.append((table, *map(_without_seconds, row)))
    return found


def _without_seconds(value: Any) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return re.sub(r'"seconds": [\d.e-]+|\b\d{19}\b', "", text)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A copy: to open a record that a killed process left changes it."""
    with TemporaryDirectory() as copy:
        for name in (path.name, f"{path.name}-journal"):
            if path.with_name(name).exists():
                shutil.copy(path.with_name(name), copy)
        with closing(sqlite3.connect(f"{copy}/{path.name}")) as database:
            yield database


def faults(out: Path) -> list[str]:
    """Files under final names that are not whole, a line each."""
    found = []
    for path in files_in(out):
        if not is_temporary(path):
            try:
                _read(path)
            except Exception as error:
                found.append(f"{path.relative_to(out)}: {type(error).__name__}: {error}")
    return found


def _read(path: Path) -> None:
    """Raises where it is not whole."""
    suffix = path.suffix
    if suffix in (".png", ".jpg"):
        with Image.open(path) as image:
            image.load()
    elif suffix == ".json":
        json.loads(path.read_text())
    elif suffix == ".jsonl":
        [json.loads(line) for line in path.read_text().splitlines()]
    elif suffix == ".yaml":
        assert yaml.safe_load(path.read_text())
    elif suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118
    elif suffix == ".pth":
        torch.load(path, weights_only=True)
    elif suffix in (".npy", ".npz"):
        array = np.load(path)
        if suffix == ".npz":
            [array[key] for key in array]
            array.close()
    elif suffix == ".sqlite":
        with _opened(path) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    elif suffix == ".html":
        assert path.read_text().rstrip().endswith("</html>"), "cut off"
    elif path.name in _LOGS:  # of which the last row may be half there, until it goes on
        list(csv.reader(io.StringIO(path.read_text())))
    elif suffix in (".csv", ".txt"):
        assert path.read_text().endswith("\n"), "cut off"
    else:
        raise ValueError("a file of no known kind")


def finished(out: Path) -> dict[str, tuple[int, ...]]:
    """What is finished, by name, and what differs where it is done again.

    Rows of records, which get another number when they are written again; and of images that a
    record has, or Ray's finished shards, the files, which get another inode.
    """
    found: dict[str, tuple[int, ...]] = {}
    if (out / "labels/shards").is_dir():
        found |= states(out / "labels")
    for path in out.rglob("*.sqlite"):
        with _opened(path) as database:
            tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
            if "counts" in tables:
                query = "SELECT image, variant, rowid FROM counts"
                for image, part, number in database.execute(query):
                    found[f"{path.name}: {image}: {part}"] = (number,)
            names = database.execute("SELECT image FROM images") if "images" in tables else ()
            images = {Path(row[0]).stem for row in names}
        for file in files_in(out):
            name = file.relative_to(out)
            # the pictures of `train FOLDER`'s last step have names of evaluated images, too
            other = "one" in name.parts[0] or "examples" in name.parts
            of_record = file.suffix in (".png", ".npy", ".npz") and not other
            if of_record and file.stem in images:
                stat = file.stat()
                found[str(name)] = stat.st_ino, stat.st_mtime_ns
    return found


def newest_checkpoint(out: Path) -> int:
    """Updates until then; 0 without one."""
    return max((int(path.stem[-8:]) for path in out.rglob("checkpoints/iteration_*")), default=0)
