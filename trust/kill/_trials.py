"""Runs that are killed, begun again until they end, and held against undisturbed ones."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from deeplab_native.training.loop import Loop
from deeplab_native.training.steps import Steps

from . import _attempts, _events, _state, _tiny
from ._kinds import Kind

_WARM = {
    *("deeplab_native", "torch", "lightning", "tensorboard", "matplotlib", "PIL", "safetensors"),
    *("ray", "pandas", "pyarrow", "fsspec"),
}


class Kill(NamedTuple):
    """How an attempt is ended: at a moment, or at an event; all its processes, or the first."""

    signal: int
    seconds: float | None = None
    event: int = 0
    when: str = "before"
    victim: int = 0
    as_process: bool = False

    def __str__(self) -> str:
        place = f"{self.seconds:.3f} s" if self.event == 0 else f"{self.when} event {self.event}"
        alone = {0: "", _events.MAIN: ", the first process alone", _events.SELF: ", who does it"}
        return f"{signal.Signals(self.signal).name} at {place}{alone[self.victim]}"


@dataclass
class Figures:
    """What came of all trials; lists have a line for each fault."""

    events: int = 0
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)
    at_events: set[int] = field(default_factory=set)
    restarts: int = 0
    not_whole: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    done_again: list[str] = field(default_factory=list)
    updates_again: list[int] = field(default_factory=list)

    def faults(self) -> dict[str, list[str]]:
        """By what they are."""
        names = ("not_whole", "refused", "different", "lost", "left_over", "done_again")
        return {name: getattr(self, name) for name in names}


class Bench:
    """A kind of run in a folder of its own."""

    def __init__(self, kind: Kind, folder: Path, seed: int) -> None:
        self.folder, self.given, self.out = folder, folder / "given", folder / "out"
        self.log, self._updates = folder / "log", folder / "updates"
        self.kind, self.random = kind, random.Random(seed)
        self.control = _events.control()
        self.figures = Figures()
        kind.prepare(self.given)
        _tiny.register()
        _note_updates(self._updates)

    def undisturbed(self) -> None:
        """Twice: what is to come out, and that it is the same each time."""
        imported = self.folder / "imported"
        os.environ[_attempts.IMPORTED] = str(imported)
        self._fresh()
        self._attempt(None)
        os.environ.pop(_attempts.IMPORTED)
        for name in imported.read_text().split():
            if name.split(".")[0] in _WARM and name not in sys.modules:
                with suppress(Exception):
                    import_module(name)
        self._fresh()
        first = self._reference()
        self._fresh()
        self.control.watch(self.out)
        self.reference = self._reference()
        self.figures.events, self.writes = self.control.count, self.control.writes()
        if first != self.reference:
            raise AssertionError(f"not the same twice: {_differing(first, self.reference)}")
        faults = _state.faults(self.out)
        temporary = [name for name in self.reference if _state.is_temporary(Path(name))]
        if faults or temporary:
            raise AssertionError(f"undisturbed: {faults} {temporary}")

    def _reference(self) -> dict[str, str]:
        ended = self._attempt(None)
        if ended.status:
            raise AssertionError(f"undisturbed, it ended with {ended.status}: {ended.log}")
        self.figures.seconds = ended.seconds
        self.updates = self._updated()
        return _state.contents(self.out)

    def at_random_moments(self, kills: int, processes: int, signals: Sequence[int]) -> None:
        """Runs that are killed one to three times each, until so many kills have struck.

        `processes` of them in real processes, with workers, over the time that these take.
        """
        while sum(self.figures.kills.values()) < processes:
            seconds = self.random.uniform(0, 3 + 2 * self.figures.seconds)
            alone = self.random.choice((0, _events.MAIN))
            self.trial(Kill(self.random.choice(signals), seconds, 0, "", alone, True))
        while (left := kills - sum(self.figures.kills.values())) > 0:
            self.trial(
                *(self._moment(signals) for _ in range(min(left, self.random.randint(1, 3))))
            )

    def at_every_event(self, step: int) -> None:
        """SIGKILL before every `step`-th event, and in the middle of it where it is a write."""
        for event in range(1, self.figures.events + 1, step):
            for when in ("before", "within") if event in self.writes else ("before",):
                victim = _events.SELF if self.kind.goes_on else 0
                self.trial(Kill(signal.SIGKILL, None, event, when, victim))

    def _moment(self, signals: Sequence[int]) -> Kill:
        seconds = self.random.uniform(0, self.figures.seconds)
        victim = self.random.choice((0, 0, _events.MAIN))
        return Kill(self.random.choice(signals), seconds, victim=victim)

    def trial(self, *kills: Kill) -> int:
        """One run, killed as often as there are `kills`, then left alone; how many struck."""
        self._fresh()
        struck = 0
        words = "; ".join(map(str, kills))
        done: dict[str, tuple[int, ...]] = {}
        newest = again = 0
        for kill in (*kills, None):
            ended = self._attempt(kill)
            what = self.control.what.decode()
            here = f"{words} ({what})" if what else words
            begun = self._updated()
            if begun and begun[0] != newest:
                self.figures.done_again.append(f"{here}: from {begun[0]}, had {newest}")
            # of Ray's workers one may be killed, and the run goes on
            hit = kill is not None and (ended.status != 0 or bool(what))
            struck += hit
            if kill is None and ended.status:
                self.figures.refused.append(f"{here}: {ended.status}: {ended.log.strip()[-400:]}")
            self.figures.not_whole += [f"{here}: {fault}" for fault in _state.faults(self.out)]
            now = _state.finished(self.out)
            self.figures.done_again += [
                f"{here}: {name}" for name, was in done.items() if now.get(name) != was
            ]
            done, newest = now, _state.newest_checkpoint(self.out)
            if kill is not None and hit:
                self.figures.kills[signal.Signals(kill.signal).name] += 1
                if kill.event:
                    self.figures.at_events.add(kill.event)
                else:
                    self.figures.moments.append(kill.seconds or 0.0)
                self.figures.restarts += ended.status != 0
                again = max(begun, default=newest - 1) + 1 - newest
                if begun and again:
                    self.figures.updates_again.append(again)
        self._compare(here)
        return struck

    def _compare(self, here: str) -> None:
        found = _state.contents(self.out)
        for name in sorted(found.keys() | self.reference.keys()):
            if name not in found:
                self.figures.lost.append(f"{here}: {name}")
            elif name not in self.reference:
                self.figures.left_over.append(f"{here}: {name}")
            elif found[name] != self.reference[name]:
                self.figures.different.append(f"{here}: {name}")

    def _fresh(self) -> None:
        self.control.rest()
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()

    def _attempt(self, kill: Kill | None) -> _attempts.Ended:
        self._updates.unlink(missing_ok=True)
        processes = kill is not None and kill.as_process
        commands = self.kind.commands(self.given, self.out, processes)
        start = _attempts.started if processes else _attempts.forked
        self.control.watch(self.out)
        meanwhile = None
        if kill is not None and kill.event:
            self.control.strike(self.out, kill.event, kill.when, kill.signal, kill.victim)
        elif kill is not None:
            seconds = kill.seconds or 0.0

            def meanwhile(child: int) -> None:
                time.sleep(seconds)
                with suppress(ProcessLookupError):
                    (os.killpg if kill.victim == 0 else os.kill)(child, kill.signal)

        return start(commands, self.log, meanwhile)

    def _updated(self) -> list[int]:
        """Iterations of training of the attempt."""
        return [*map(int, self._updates.read_text().split())] if self._updates.exists() else []


def _note_updates(path: Path) -> None:
    """From now on every update of training writes its number to a file."""
    update = Loop._update

    def noted(self: Loop, steps: Steps, rate: float) -> None:
        with path.open("a") as file:
            file.write(f"{self.state.iteration}\n")
        update(self, steps, rate)

    Loop._update = noted  # type: ignore[method-assign]


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
