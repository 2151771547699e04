"""The one actor that all workers of a run talk to: it counts, and says when to stop."""

from __future__ import annotations

from typing import NamedTuple

SECONDS = 0.3  # between two reports of a worker
MOST_DEATHS = 2  # of workers, by an image that they had alone
MOST_UNKNOWN = 4  # of workers, in a unit, by what nobody knows; machines go, too


class State(NamedTuple):
    """What the run's caller hears.

    Attributes:
        images: done by workers, those of shards that are not finished yet and those that failed
            among them.
        failures: new ones, (shard, key, why); the key is "" where it is the shard's.
        restarts: how often a worker died and its unit was begun again.
    """

    images: int
    failures: list[tuple[str, str, str]]
    restarts: int


class Board:
    """Counts by unit, so that what a dead worker had done is not counted twice."""

    def __init__(self) -> None:
        self._images: dict[str, int] = {}
        self._begun: dict[str, int] = {}
        self._alone: dict[str, str] = {}
        self._deaths: dict[str, dict[str, int]] = {}
        self._failures: list[tuple[str, str, str]] = []
        self._known: set[tuple[str, str]] = set()
        self._stop = False

    def begin(self, unit: str) -> dict[str, int] | None:
        """Workers that have died of each of its keys, and in "" of none known; None: do not begin.

        Empty the first time.
        """
        if self._stop:
            return None
        self._images[unit] = 0
        self._begun[unit] = self._begun.get(unit, 0) + 1
        deaths = self._deaths.setdefault(unit, {})
        if self._begun[unit] > 1:
            key = self._alone.pop(unit, "")
            deaths[key] = deaths.get(key, 0) + 1
        return deaths

    def alone(self, unit: str, key: str) -> bool:
        """An image that a worker has begun, with no other; whether it is to stop."""
        self._alone[unit] = key
        return self._stop

    def report(self, unit: str, images: int, failures: list[tuple[str, str]]) -> bool:
        """Images of a unit that are done by now, and new failures; whether to stop."""
        self._images[unit] = images
        for key, error in failures:
            if (unit, key) not in self._known:
                self._known.add((unit, key))
                self._failures.append((unit, key, error))
        return self._stop

    def state(self) -> State:
        """Failures are told once."""
        failures, self._failures = self._failures, []
        restarts = sum(self._begun.values()) - len(self._begun)
        return State(sum(self._images.values()), failures, restarts)

    def stop(self) -> None:
        """From now on."""
        self._stop = True
