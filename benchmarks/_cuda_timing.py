"""Times on a GPU: CUDA events around each call, or around each replay of a CUDA graph.

Inputs rotate: with one set of them, what a run reads would still lie in the L2 cache of the last.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from _timing import Timing, _summary

Inputs = Sequence[tuple]  # arguments of one call each


def time_cuda(
    fn: Callable[..., object], inputs: Inputs, min_runs: int = 20, min_time_s: float = 0.3
) -> Timing:
    """Seconds of fn(*inputs[i]), as the GPU sees them, i in turn, after a warm-up.

    A call that keeps the processor longer than the GPU is timed with its gaps.
    """
    calls = [lambda args=args: fn(*args) for args in inputs]
    return _time_calls(calls, min_runs, min_time_s)


def time_graph(
    fn: Callable[..., object], inputs: Inputs, min_runs: int = 20, min_time_s: float = 0.3
) -> Timing:
    """Seconds of a replay of fn(*inputs[i]), captured once for each set of inputs.

    Raises what fn raises in a capture, such as RuntimeError where it waits for the GPU.
    """
    replays = capture([partial(fn, *args) for args in inputs])
    return _time_calls(replays, min_runs, min_time_s)


def graphed(fn: Callable[[], object], count: int) -> Callable[[], object]:
    """fn(), which takes `count` inputs in turn, as replays of so many graphs: without Python."""
    return in_turn(capture([fn] * count))


def in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """A function whose calls are those of `calls`, one after the other, again and again."""
    endless = itertools.cycle(calls)
    return lambda: next(endless)()


def capture(calls: Sequence[Callable[[], object]]) -> list[Callable[[], object]]:
    """The replay of a CUDA graph for each call."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what is made once must not be made in a capture
        for _ in range(3):
            for call in calls:
                call()
    torch.cuda.current_stream().wait_stream(stream)
    replays = []
    pool = torch.cuda.graph_pool_handle()  # one for all: nobody looks at what a replay leaves there
    for call in calls:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            call()
        replays.append(graph.replay)
    return replays


def _time_calls(calls: Sequence[Callable[[], object]], min_runs: int, min_time_s: float) -> Timing:
    for call in calls * 2:
        call()
    torch.cuda.synchronize()
    seconds: list[float] = []
    begin = time.perf_counter()
    # the clock also ends it where calls are long: ten times the time that the GPU was to work
    while len(seconds) < min_runs or sum(seconds) < min_time_s:
        seconds += _round(calls)
        if len(seconds) >= 3 and time.perf_counter() - begin > 10 * min_time_s + 10:
            break
    return _summary(seconds)


def _round(calls: Sequence[Callable[[], object]]) -> list[float]:
    events = []
    for call in calls:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in events]


def copy_bandwidth(gigabytes: float = 2.0) -> float:
    """Bytes per second, read and written, of the fastest of some large copies on the GPU."""
    free, _ = torch.cuda.mem_get_info()
    numel = int(min(gigabytes * 1e9, free / 4)) // 4
    source = torch.rand(numel, device="cuda")
    target = torch.empty_like(source)
    timing = time_cuda(target.copy_, [(source,)])
    return 2 * 4 * numel / timing.median


def driver_version() -> str | None:
    """The driver's, as nvidia-smi says it."""
    import subprocess

    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.split()[0]
