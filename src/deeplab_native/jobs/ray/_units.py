"""What is left to do: the inputs, less what the results already have."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from ._inputs import Inputs, Member, Unit, units_of_files
from ._results import Finished, Results, Row
from ._samples import Columns, ShardError, parquet_groups

_AT_THE_SAME_TIME = 16  # Parquet files whose row groups are counted


class Todo(NamedTuple):
    """Units, images that are finished, and what should be known of the inputs, a line each."""

    units: list[Unit]
    skipped: int
    notes: tuple[str, ...] = ()


def units_of(
    inputs: Inputs, results: Results, columns: Columns, most: int, *, refine: bool
) -> Todo:
    """Images that failed, and those whose files are others by now, are left to do, too.

    Raises ValueError where a Parquet file has not the columns.
    """
    finished = results.finished()
    notes = list(inputs.unmatched)
    if inputs.kind == "files":
        units, skipped = _of_members(inputs.members, finished, results, most)
        return Todo(units, skipped, tuple(notes))
    units, skipped = [], 0
    for unit in _of_shards(inputs, columns, refine=refine):
        before = finished.get(unit.name)
        if before is None or before.state != unit.state or before.input != unit.url:
            units.append(unit)
            continue
        skipped += before.images
        if before.failed or before.error is not None:
            keep = _good(results.rows(unit.name))
            left = None if unit.images is None else unit.images - len(keep)
            units.append(replace(unit, keep=frozenset(keep), images=left))
    if inputs.kind == "tar" and units:
        notes.append(
            f"how many images {len(units)} tar shards have is estimated until they are read"
        )
    return Todo(units, skipped, tuple(notes))


def _of_shards(inputs: Inputs, columns: Columns, *, refine: bool) -> list[Unit]:
    if inputs.kind == "tar":
        return [
            Unit(name, "tar", file.url, file.state, file.size)
            for name, file in inputs.shards.items()
        ]

    def groups(name: str) -> list[Unit]:
        file = inputs.shards[name]
        try:
            images = parquet_groups(file.url, columns, refine=refine)
        except ShardError:  # the worker will say so
            return [Unit(f"{name}-00000", "parquet", file.url, file.state)]
        return [
            Unit(f"{name}-{i:05d}", "parquet", file.url, file.state, 0, number, i)
            for i, number in enumerate(images)
        ]

    with ThreadPoolExecutor(_AT_THE_SAME_TIME) as pool:
        return [unit for units in pool.map(groups, inputs.shards) for unit in units]


def _of_members(
    members: tuple[Member, ...], finished: Mapping[str, Finished], results: Results, most: int
) -> tuple[list[Unit], int]:
    """A unit that has images to be done again stays the same unit; new images make new ones."""
    there = {member.key: member for member in members}
    again, skipped = [], 0
    for shard, rows in results.all_rows(list(finished)).items():
        own = [there.pop(row.key) for row in rows if row.key in there]
        state = {row.key: row.state for row in rows if row.status == "ok"}
        gone = {row.key for row in rows} - {member.key for member in own}
        done = {m.key for m in own if state.get(m.key) == m.state}
        skipped += len(done)
        if len(done) < len(own):
            keep = frozenset(done | (gone & state.keys()))
            left = len(own) - len(done)
            unit = Unit(shard, "files", "", images=left, members=tuple(own), keep=keep)
            again.append(unit)
    return again + units_of_files(list(there.values()), most), skipped


def _good(rows: list[Row]) -> set[str]:
    return {row.key for row in rows if row.status == "ok"}
