"""Counts of every image in one SQLite file: an image is there with all its counts, or not at all.

Why not one sum: a run that is interrupted goes on where it was, and images that failed are done
later, without counting anything twice.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .crf_folder_files import describe_differences
from .evaluate_image import unpack

_FORMAT = "deeplab_native evaluate 1"
_ADVICE = "(give another --out, or --overwrite to count anew)"
_TABLES = (
    "CREATE TABLE about (what TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE images (image TEXT PRIMARY KEY, files TEXT NOT NULL)",
    "CREATE TABLE counts (image TEXT, variant TEXT, packed BLOB NOT NULL, "
    "PRIMARY KEY (image, variant))",
)


class Store:
    """Counts by image and variant, made with one set of settings."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Opens or makes the file; ValueError where it is damaged or was made with other settings.

        OSError where it cannot be written.
        """
        self._path = path
        now = json.loads(json.dumps(settings, default=str))
        with self._errors():
            self._database = sqlite3.connect(path, isolation_level=None)
        try:
            with self._errors(), self._at_once():
                self._check(now)
        except BaseException:
            self._database.close()
            raise

    def _check(self, now: dict[str, Any]) -> None:
        tables = [row[0] for row in self._database.execute("SELECT name FROM sqlite_master")]
        if not tables:
            for table in _TABLES:
                self._database.execute(table)
            rows = [("format", _FORMAT), ("settings", json.dumps(now))]
            self._database.executemany("INSERT INTO about VALUES (?, ?)", rows)
            return
        about = {}
        if {"about", "images", "counts"} <= set(tables):
            about = dict(self._database.execute("SELECT what, value FROM about"))
        if about.get("format") != _FORMAT:
            raise ValueError(f"{self._path}: not written by this command {_ADVICE}")
        differences = describe_differences(json.loads(about["settings"]), now)
        if differences:
            raise ValueError(f"{self._path}: counted with other settings: {differences} {_ADVICE}")

    def done(self) -> dict[str, str]:
        """The images that are counted, and the state of their files then."""
        with self._errors():
            return dict(self._database.execute("SELECT image, files FROM images"))

    def add(self, image: str, files: str, packed: dict[str, bytes]) -> None:
        """All variants of an image, in place of what was there; or, where this raises, nothing."""
        rows = [(image, variant, content) for variant, content in packed.items()]
        with self._errors(), self._at_once():
            self._database.execute("INSERT OR REPLACE INTO images VALUES (?, ?)", (image, files))
            self._database.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)", rows)

    def total(self, variant: str, images: Iterable[str], shape: tuple[int, ...]) -> np.ndarray:
        """The sum of the images' counts."""
        wanted = set(images)
        total = np.zeros(shape, np.int64)
        with self._errors():
            rows = self._database.execute(
                "SELECT image, packed FROM counts WHERE variant = ?", (variant,)
            )
            for image, packed in rows:
                if image not in wanted:
                    continue
                try:
                    total += unpack(packed, shape)
                except ValueError as error:
                    raise ValueError(f"{self._path}: {image}: {error} {_ADVICE}") from None
        return total

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def _at_once(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # SQLite ends it itself where the disk is full
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.OperationalError as error:  # full, read-only, locked by others
            raise OSError(f"{self._path}: {error} (free the disk, or give another --out)") from None
        except (sqlite3.DatabaseError, json.JSONDecodeError, AttributeError, KeyError) as error:
            raise ValueError(f"{self._path}: damaged: {error} {_ADVICE}") from None
