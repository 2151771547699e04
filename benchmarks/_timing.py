"""Timing and machine description, shared by all benchmarks."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import deeplab_native
from deeplab_native import _C
from deeplab_native._files import atomic_path
from deeplab_native._machine import cores, cpu_model, now


@dataclass(frozen=True)
class Timing:
    """Seconds of one call; p10 and p90 are the deciles of all runs."""

    median: float
    p10: float
    p90: float
    runs: int


def time_function(fn: Callable[[], object], min_runs: int = 9, min_time_s: float = 1.0) -> Timing:
    """Times fn() after a warm-up, at least min_runs times and for min_time_s seconds."""
    return time_paired({"fn": fn}, min_runs, min_time_s)["fn"]


def time_paired(
    functions: Mapping[str, Callable[[], object]],
    min_runs: int = 9,
    min_time_s: float = 1.0,
    device: str = "cpu",
) -> dict[str, Timing]:
    """Times several functions in turn, so that what else the machine does meets all alike.

    Each round runs every function once and begins with another one; rounds go on until every
    function has min_runs runs and min_time_s seconds. On a CUDA device its own events take the
    time, of as many calls in a row as last about a millisecond, so that it never waits for Python.
    """
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    calls = {}
    for name in names:
        _run(functions[name])  # compiles, chooses algorithms
        calls[name] = 1 if device == "cpu" else _calls_of_a_run(functions[name])
    while any(len(seconds[n]) < min_runs or sum(seconds[n]) * calls[n] < min_time_s for n in names):
        for name in names:
            run = _run if device == "cpu" else _run_by_events
            seconds[name].append(run(functions[name], calls[name]))
        names.append(names.pop(0))
    return {name: _summary(seconds[name]) for name in functions}


def rotate(fn: Callable[..., object], inputs: Sequence[tuple]) -> Callable[[], object]:
    """fn of one tuple of arguments after the other, so that no run finds its own in the caches."""
    rotation = itertools.cycle(inputs)
    return lambda: fn(*next(rotation))


def _run(fn: Callable[[], object], calls: int = 1) -> float:
    _wait_for_device()
    start = time.perf_counter()
    for _ in range(calls):
        fn()
    _wait_for_device()
    return (time.perf_counter() - start) / calls


def _run_by_events(fn: Callable[[], object], calls: int = 1) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        fn()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def _calls_of_a_run(fn: Callable[[], object], run_s: float = 1e-3, at_most: int = 100) -> int:
    return max(1, min(at_most, round(run_s / _run_by_events(fn, 3))))


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _summary(seconds: list[float]) -> Timing:
    if len(seconds) == 1:
        return Timing(seconds[0], seconds[0], seconds[0], 1)
    deciles = statistics.quantiles(seconds, n=10, method="inclusive")
    return Timing(statistics.median(seconds), deciles[0], deciles[-1], len(seconds))


def machine_info() -> dict[str, Any]:
    """What a figure depends on beside the code: processor, threads, versions, date, commit."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "load_1min": round(os.getloadavg()[0], 2),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "isa": _C.isa(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "deeplab_native": deeplab_native.__version__,
        "commit": _commit(),
        "date": now().isoformat(timespec="seconds"),
    }


def _commit() -> str | None:
    """The commit of this checkout, "-dirty" where files differ; None outside of git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def write_results(args: argparse.Namespace, results: object, **more: object) -> None:
    """What there is so far, where --json and --html ask for it; more: of the machine.

    After every case: a run that is ended early leaves what it had.
    """
    if not (args.json or args.html):
        return
    given = {key: value for key, value in vars(args).items() if key not in ("json", "html")}
    arguments = {key: _plain(value) for key, value in given.items()}
    machine = machine_info() | more
    write_document(args, {"machine": machine, "arguments": arguments, "results": results})


def write_document(args: argparse.Namespace, document: Mapping[str, Any]) -> None:
    """The same of results that have a form of their own."""
    if args.json:
        write_json(args.json, document)
    if args.html:
        from _html import write_html

        write_html(args.html, document)


def _plain(value: Any) -> Any:
    """An argument as JSON has it, without where it lies on this machine."""
    if isinstance(value, Path):
        return value.name
    return value.__name__ if isinstance(value, ModuleType) else value


def write_json(path: str | os.PathLike[str], obj: object) -> None:
    """Writes obj to path whole or not at all; makes the folder where there is none."""
    text = json.dumps(obj, indent=2) + "\n"
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(text)
