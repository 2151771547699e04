"""What a job has done, in one SQLite file: an image is there with all its results, or not at all.

Why not the outputs alone: results that are numbers have no file of their own, an interrupted run
goes on where it was without counting anything twice, and images whose files have changed since are
done again.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ADVICE = "(give another `output`, or `overwrite` to begin anew)"
# named when only `evaluate` had a record: "variant" is any part of an image's results
_TABLES = (
    "CREATE TABLE about (what TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE images (image TEXT PRIMARY KEY, files TEXT NOT NULL)",
    "CREATE TABLE counts (image TEXT, variant TEXT, packed BLOB NOT NULL, "
    "PRIMARY KEY (image, variant))",
)


class Record:
    """Results by image and part, all made with one set of settings.

    Args:
        path: the file; made where there is none.
        kind: the job's name; a record of another job is refused.
        settings: JSON values (paths become strings) that every result depends on.

    Raises:
        ValueError: the file is damaged, of another job, or was made with other settings.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, kind: str, settings: Mapping[str, Any]) -> None:
        self.path = path
        self._format = f"deeplab_native {kind} 1"
        now = json.loads(json.dumps(settings, default=str))
        for file in (path, path.with_name(f"{path.name}-journal")):
            if file.is_symlink():  # SQLite would write to whatever is at its end
                raise ValueError(f"{file}: is a symbolic link {ADVICE}")
        with self._errors():
            self._database = sqlite3.connect(path, isolation_level=None)
        try:
            with self._errors(), self._at_once():
                self._check(now)
        except BaseException:
            self._database.close()
            raise

    def _check(self, now: dict[str, Any]) -> None:
        there = [row[0] for row in self._database.execute("SELECT sql FROM sqlite_master")]
        if not there:
            for table in _TABLES:
                self._database.execute(table)
            rows = [("format", self._format), ("settings", json.dumps(now))]
            self._database.executemany("INSERT INTO about VALUES (?, ?)", rows)
            return
        about: dict[str, str] = {}
        # the same tables and nothing else: a view can be one that never ends, a trigger can write
        if sorted(filter(None, there)) == sorted(_TABLES):
            about = dict(self._database.execute("SELECT what, value FROM about"))
        if about.get("format") != self._format:
            raise ValueError(f"{self.path}: not written by this job {ADVICE}")
        settings = json.loads(about["settings"])
        if not isinstance(settings, dict):
            raise ValueError(f"{self.path}: damaged: its settings are no object {ADVICE}")
        differences = describe_differences(settings, now)
        if differences:
            raise ValueError(f"{self.path}: made with other settings: {differences} {ADVICE}")

    def done(self) -> dict[str, str]:
        """The images that are in it, and the state of their files then."""
        with self._errors():
            rows = self._database.execute("SELECT image, files FROM images")
            return {_name(text): state for text, state in rows}

    def add(self, image: str, state: str, results: Mapping[str, bytes]) -> None:
        """Results of an image, in place of those of the same parts; on the disk when this returns.

        Where it raises, nothing was written. Results of another state of its files are removed.
        """
        text = _text(image)
        rows = [(text, part, content) for part, content in results.items()]
        with self._errors(), self._at_once():
            self._database.execute(
                "DELETE FROM counts WHERE image = ?1 AND "
                "NOT EXISTS (SELECT 1 FROM images WHERE image = ?1 AND files = ?2)",
                (text, state),
            )
            self._database.execute("INSERT OR REPLACE INTO images VALUES (?, ?)", (text, state))
            self._database.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?, ?)", rows)

    def results(self, part: str | None = None) -> Iterator[tuple[str, str, bytes]]:
        """(image, part, content) of all there is, or of one part."""
        query = "SELECT image, variant, packed FROM counts"
        with self._errors():
            which = ("", ()) if part is None else (" WHERE variant = ?", (part,))
            for text, variant, packed in self._database.execute(query + which[0], which[1]):
                yield _name(text), variant, self._content(_name(text), packed)

    def result(self, image: str, part: str) -> bytes | None:
        """Of one image, or None where that part is not there."""
        query = "SELECT packed FROM counts WHERE image = ? AND variant = ?"
        with self._errors():
            row = self._database.execute(query, (_text(image), part)).fetchone()
        return None if row is None else self._content(image, row[0])

    def _content(self, image: str, packed: object) -> bytes:
        """SQLite keeps a number in a column of bytes; `bytes` would make so many zeros of it."""
        if not isinstance(packed, bytes):
            raise self.damaged(image, "results that are no bytes")
        return packed

    def damaged(self, image: str, why: object) -> ValueError:
        """The error to raise for results that cannot be what `add` was given."""
        return ValueError(f"{self.path}: {image}: {why} {ADVICE}")

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
            raise OSError(
                f"{self.path}: {error} (free the disk, or give another `output`)"
            ) from None
        except (
            sqlite3.DatabaseError,
            json.JSONDecodeError,
            UnicodeDecodeError,  # of texts, and of SQLite's own messages that quote them
            RecursionError,
            AttributeError,
            KeyError,
            TypeError,
        ) as error:
            raise ValueError(f"{self.path}: damaged: {error} {ADVICE}") from None
        except MemoryError:  # of a row that claims all there is, if not of the machine
            if self._is_sound():
                raise
            raise ValueError(f"{self.path}: damaged: a row larger than it {ADVICE}") from None

    def _is_sound(self) -> bool:
        """Whether the machine lacked memory, and not the file its sense."""
        if not hasattr(self, "_database"):  # memory did not suffice to open it
            return True
        try:
            rows = self._database.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.DatabaseError:
            return False
        except MemoryError:  # no row of a sound one is larger than the file
            return not _is_there(self.path.stat().st_size)
        return rows == [("ok",)]


def _is_there(size: int) -> bool:
    try:
        bytearray(size)
    except MemoryError:
        return False
    return True


# Names of files may hold bytes that are no UTF-8, which Python reads as characters that no text of
# SQLite may have.
_BYTE = re.compile(r"\\udc([89a-f][0-9a-f])")


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _name(text: str) -> str:
    return _BYTE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text)


def remove_record(path: Path) -> None:
    """The journal first: SQLite would play it back into a new file."""
    for name in (f"{path.name}-journal", path.name):
        path.with_name(name).unlink(missing_ok=True)


def state_of(*paths: Path) -> str:
    """Where, how large and how old files are: other ones make other results."""
    return json.dumps([_state(path) for path in paths])


def _state(path: Path) -> list[str | int]:
    try:
        about = path.stat()
    except OSError:  # gone: reading it will say so
        return [str(path.absolute())]
    return [str(path.absolute()), about.st_size, about.st_mtime_ns]


# What records of earlier versions lack, and what these did
_ADDED: Mapping[str, Any] = {"exif": True, "confidence": 0.7}


def describe_differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of `now` is otherwise in `there`, both read from JSON; nothing where all is the same."""
    there = {**_ADDED, **there}
    other = [k for k in now if there.get(k) != now[k]]
    return "; ".join(f"{k} {_short(there.get(k))}, now {_short(now[k])}" for k in other)


def _short(value: object) -> str:
    return json.dumps(value).replace("(", "[").replace(")", "]")
