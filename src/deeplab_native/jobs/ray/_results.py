"""The folder of results: masks, manifest, and what says that a shard is finished.

All names in it:

    run.json              settings that all results depend on, and which run may write
    classes.json          names of the classes by index, of `segment`
    masks/SHARD.tar       or .parquet; of "png" masks/SHARD/KEY.png, of pictures masks/KEY.png
    manifest/SHARD.jsonl  a line for each image of the shard
    shards/SHARD.json     written last: with it the shard is finished
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from .._record import ADVICE
from ._inputs import Unit
from ._parquet import open_parquet
from ._store import Store

RUN, CLASSES = "run.json", "classes.json"
FOLDERS = ("masks", "manifest", "shards")
FORMATS = {"png": "", "tar": ".tar", "parquet": ".parquet"}


@dataclass(frozen=True)
class Row:
    """A line of the manifest.

    Attributes:
        key: of the image.
        status: "ok" or "failed".
        input: the shard, or the picture.
        state: of that: size and time, or version.
        output: where the mask is; None of one that failed.
        height, width: in pixels.
        classes: label to pixels.
        sha256: of the mask's PNG.
        changed: pixels whose label the CRF changed, of `refine`.
        error: why it failed, in one line.
    """

    key: str
    status: str
    input: str
    state: str
    output: str | None = None
    height: int | None = None
    width: int | None = None
    classes: Mapping[str, int] | None = None
    sha256: str | None = None
    changed: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Finished:
    """What shards/SHARD.json holds.

    Attributes:
        shard: its name.
        input, state: what it was made of.
        images, failed: how many have a mask, and how many have none.
        error: why the shard could not be read to its end; None where it could.
        output, bytes, sha256: the file of the masks; of "png" the folder.
    """

    shard: str
    input: str
    state: str
    images: int
    failed: int
    error: str | None
    output: str
    bytes: int
    sha256: str | None


class Results:
    """Writes and reads them; `masks` are PNGs by key."""

    def __init__(self, store: Store, masks: str) -> None:
        self.store, self._format = store, masks

    def output(self, unit: Unit) -> str:
        """Where the masks of a unit are."""
        if self._format == "png":
            return "masks" if unit.kind == "files" else f"masks/{unit.name}"
        return f"masks/{unit.name}{FORMATS[self._format]}"

    def place(self, unit: Unit, key: str) -> str:
        """Of one mask; raises ValueError where the key cannot be a file's name."""
        if self._format == "parquet":
            return self.output(unit)
        parts = key.split("/")
        if not key or {"", ".", ".."} & {*parts} or "\\" in key or not key.isprintable():
            raise ValueError(f"key {key!r}: expected the name of a file (rename it)")
        return self.output(unit) if self._format == "tar" else f"{self.output(unit)}/{key}.png"

    def write(
        self, unit: Unit, masks: Mapping[str, bytes], rows: Sequence[Row], error: str | None
    ) -> Finished:
        """All of a unit; in an order in which it is finished or not, whenever it stops.

        masks: of all rows that are "ok", but for "png" those alone that are new.
        """
        size, digest = 0, None
        if self._format == "png":
            for row in rows:
                if row.output is not None and row.key in masks:
                    self.store.write(row.output, masks[row.key])
                    size += len(masks[row.key])
        else:
            content = (_tar if self._format == "tar" else _parquet)(masks, rows)
            self.store.write(self.output(unit), content)
            size, digest = len(content), sha256(content).hexdigest()
        lines = (json.dumps(asdict(row)) + "\n" for row in rows)
        self.store.write(f"manifest/{unit.name}.jsonl", "".join(lines).encode())
        good = sum(row.status == "ok" for row in rows)
        finished = Finished(
            unit.name, unit.url, unit.state, good, len(rows) - good, error,
            self.output(unit), size, digest,
        )  # fmt: skip
        self.store.write(f"shards/{unit.name}.json", json.dumps(asdict(finished)).encode())
        return finished

    def masks(self, unit: Unit) -> dict[str, bytes]:
        """What was written of a unit, by key; of "png" nothing, as it stays where it is."""
        if self._format == "png":
            return {}
        content = io.BytesIO(self.store.read(self.output(unit)))
        if self._format == "tar":
            with tarfile.open(fileobj=content) as tar:
                # ours are plain: a link or a hole is of somebody else
                plain = (m for m in tar if m.isfile() and not m.issparse())
                found = ((m.name.removesuffix(".png"), tar.extractfile(m)) for m in plain)
                return {key: file.read() for key, file in found if file is not None}
        table = open_parquet(content).read(columns=["key", "mask"])
        return dict(zip(table["key"].to_pylist(), table["mask"].to_pylist(), strict=True))

    def rows(self, shard: str) -> list[Row]:
        """Of the manifest."""
        return _rows(self.store.read(f"manifest/{shard}.jsonl"))

    def finished(self) -> dict[str, Finished]:
        """By shard."""
        names = [n for n in self.store.names("shards") if n.endswith(".json")]
        found = {}
        for name, text in zip(names, self.store.read_many(names), strict=True):
            one = Finished(**json.loads(text))
            if name != f"shards/{one.shard}.json":  # it would name files elsewhere
                raise ValueError(
                    f"`output` {self.store.url}: {name} is of a shard {one.shard!r} {ADVICE}"
                )
            found[one.shard] = one
        return found

    def all_rows(self, shards: Sequence[str]) -> dict[str, list[Row]]:
        """The manifest of these, by shard."""
        texts = self.store.read_many(f"manifest/{shard}.jsonl" for shard in shards)
        return {shard: _rows(text) for shard, text in zip(shards, texts, strict=True)}


def _rows(text: bytes) -> list[Row]:
    return [Row(**json.loads(line)) for line in text.splitlines()]


def _tar(masks: Mapping[str, bytes], rows: Sequence[Row]) -> bytes:
    """KEY.png in the order of the rows; the same masks make the same bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for row in rows:
            if row.status == "ok":
                entry = tarfile.TarInfo(f"{row.key}.png")
                entry.size = len(masks[row.key])
                tar.addfile(entry, io.BytesIO(masks[row.key]))
    return content.getvalue()


def _parquet(masks: Mapping[str, bytes], rows: Sequence[Row]) -> bytes:
    """Columns key, mask (a PNG), height, width."""
    import pyarrow as pa
    import pyarrow.parquet

    good = [row for row in rows if row.status == "ok"]
    columns: dict[str, Any] = {
        "key": pa.array([row.key for row in good], pa.string()),
        "mask": pa.array([masks[row.key] for row in good], pa.binary()),
        "height": pa.array([row.height for row in good], pa.int32()),
        "width": pa.array([row.width for row in good], pa.int32()),
    }
    content = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), content, compression="none")  # PNGs are
    return content.getvalue()
