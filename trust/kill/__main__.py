"""`python -m trust.kill KIND`: kills runs at random moments and at every event, and compares."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from . import _events

if TYPE_CHECKING:
    from ._trials import Bench

_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_NAMES = (
    "training", "evaluate", "segment", "crf", "crf-search", "ray", "convert-weights",
    "train-folder",
)  # fmt: skip


_COUNTS = {"kills": 50, "processes": 6, "events": 1, "seed": 0}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trust.kill",
        description="Runs a command until it is killed, at random moments of its run and at every "
        "thing that it does to its files, begins it again until it ends, and compares what is "
        "there with what an undisturbed run leaves. Half an hour a kind, with --events 10 some "
        "minutes. Drivers and workers of Ray are killed on a cluster that lives on.",
    )
    parser.add_argument("kind", choices=_NAMES)
    for name, what in (
        ("kills", "at random moments"),
        ("processes", "of these, so many are of real processes with workers, from their start on"),
        ("events", "and at every so many-th event, 0 for none"),
        ("seed", "of the random moments"),
    ):
        default = _COUNTS[name]
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    parser.add_argument("--folder", type=Path, help="for what is run (a temporary one)")
    parser.add_argument("--results", type=Path, help="folder for the record (trust/results)")
    arguments = parser.parse_args()
    if not _events.is_there():
        _events.begin_again("trust.kill", _events.scratch())
    folder = arguments.folder or Path(os.environ[_events.VARIABLE]).with_name("run")
    try:
        sys.exit(0 if run(arguments, folder) else 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(arguments: argparse.Namespace, folder: Path) -> bool:
    """Whether all held; writes the record."""
    from . import _ray
    from ._kinds import KINDS
    from ._trials import Bench

    folder.mkdir(parents=True)
    start = time.monotonic()
    bench = Bench(KINDS[arguments.kind], folder, arguments.seed)
    with _ray.cluster(folder) if arguments.kind == "ray" else nullcontext():
        bench.undisturbed()
        _say(f"undisturbed: {bench.figures.seconds:.2f} s, {bench.figures.events} events")
        bench.at_random_moments(arguments.kills, arguments.processes, _SIGNALS)
        _say(f"{sum(bench.figures.kills.values())} kills at random moments")
        if arguments.events:
            bench.at_every_event(arguments.events)
    return _judge(bench, arguments, time.monotonic() - start)


def _judge(bench: Bench, arguments: argparse.Namespace, seconds: float) -> bool:
    from trust import record

    figures = bench.figures
    faults = figures.faults()
    for what, lines in faults.items():
        for line in lines:
            _say(f"{what}: {line}")
    passed = not any(faults.values())
    found = {
        "kills": sum(figures.kills.values()),
        "signals": dict(figures.kills),
        "random_moments": len(figures.moments),
        "first_moment_seconds": round(min(figures.moments, default=0.0), 3),
        "last_moment_seconds": round(max(figures.moments, default=0.0), 3),
        "undisturbed_seconds": round(figures.seconds, 3),
        "file_events": figures.events,
        "file_events_killed_at": len(figures.at_events),
        "restarts": figures.restarts,
        "files_compared": len(bench.reference),
        **{name: len(lines) for name, lines in faults.items()},
        "seconds": round(seconds),
    }
    if bench.updates:
        found["updates"] = len(bench.updates)
        found["most_updates_done_again_after_a_kill"] = max(figures.updates_again, default=0)
    _say(str(found))
    options = [
        f" --{name} {getattr(arguments, name)}"
        for name, default in _COUNTS.items()
        if getattr(arguments, name) != default
    ]
    record.record(
        f"kill_{arguments.kind.replace('-', '_')}",
        found,
        passed=passed,
        command=f"python -m trust.kill {arguments.kind}{''.join(options)}",
        folder=arguments.results or record.RESULTS,
    )
    return passed


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
