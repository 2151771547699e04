"""Every allocation of the native module fails once: what comes of it.

Of each call the first allocation fails, then the second, and so on to the last. Every outcome must
be a MemoryError (or the right result, where the memory was not needed), and the same call after it
must give the bits that it gave before. `python -m trust.faults` runs and records it; alone it
prints what it found. A few minutes; it needs g++.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _preload

if TYPE_CHECKING:
    from ._memory_cases import Call

NAME = "failing_allocations"
_OFF = (0, 0, 0)
_SECONDS = 60  # without a word: it hangs
_LEAK = 1 << 20  # bytes more than at first, after all failures of a call, that are a leak


def run(which: str = "", most: int = 0, threads: int = 1) -> dict[str, Any]:
    """In a process of its own, what `main` prints; the arguments are its options."""
    options = "--which", which, "--most", str(most), "--threads", str(threads)
    found: dict[str, Any] = _preload.run(NAME, *options)
    return found


def _code_of(module: str) -> tuple[int, int]:
    """First and last address of a loaded module."""
    ranges = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if line.endswith(module)
    ]
    return min(r[0] for r in ranges), max(r[1] for r in ranges)


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def in_use() -> int:
    """Bytes that malloc has given out, in all arenas and mapped ones."""
    gc.collect()
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _MallInfo
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def _inject(call: Call, threads: int, first: int, most: int, say: Callable[[Any], None]) -> None:
    """In a child: says {"n": of the allocation that fails, "outcome": ...} for each."""
    import torch

    from deeplab_native import _C

    fail = ctypes.CDLL(None).fail_allocation
    fail.argtypes = [ctypes.c_long, ctypes.c_size_t, ctypes.c_size_t]
    module = _code_of(str(Path(_C.__file__).resolve()))
    torch.set_num_threads(threads)
    expected = call()
    call()  # what torch keeps for the next time
    _C.release_memory()
    before = in_use()
    made = [call.make()] if call.make else []
    fail(0, *module)
    call.use(*made)
    count = ctypes.CDLL(None).allocations()
    fail(*_OFF)
    step = max(1, count // most) if most else 1
    say({"count": count, "step": step})
    # threads may come in another order, and with it a few more allocations
    for n in range(first, count + 3, step):
        say({"begins": n})
        _C.release_memory()
        made = [call.make()] if call.make else []
        fail(n, *module)
        try:
            outcome = "right" if call.use(*made) == expected else "wrong result"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"[:200]
        finally:
            fail(*_OFF)
        if call.use(*made) != expected:
            outcome = f"afterwards wrong; {outcome}"
        say({"n": n, "outcome": outcome})
    _C.release_memory()
    say({"more_bytes": in_use() - before})


def failures_of(call: Call, most: int, threads: int) -> tuple[Counter[str], int, str]:
    """Outcomes with how often each was, the bytes left over, and where a child died."""
    from ._forked import in_child

    outcomes: Counter[str] = Counter()
    first, left, died = 1, 0, ""
    for _ in range(20):  # children: each crash costs one
        at, step = first, 1
        for said in in_child(lambda say: _inject(call, threads, first, most, say), _SECONDS):  # noqa: B023
            at, step = said.get("begins", at), said.get("step", step)
            left = max(left, said.get("more_bytes", 0))
            if "outcome" in said:
                outcomes[said["outcome"]] += 1
            ended = said.get("ended", "0")
        if ended == "0":
            return outcomes, left, died
        outcomes[f"process ended: {ended}"] += 1
        died += f" {at}"
        first = at + step
    return outcomes, left, died


def is_good(outcome: str) -> bool:
    """Whether an outcome is what is promised."""
    return outcome == "right" or outcome.startswith("MemoryError")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--which", default="", help="part of a call's name; all without it")
    parser.add_argument("--most", type=int, default=0, help="allocations of a call; 0: every one")
    parser.add_argument("--threads", type=int, default=1, help="of the kernels")
    asked = parser.parse_args(arguments)
    if not _preload.is_loaded(NAME):
        print(json.dumps(run(asked.which, asked.most, asked.threads), indent=1))
        return 0
    import torch

    from ._memory_cases import cases, op_cases

    torch.set_num_threads(1)  # no threads before the children are forked
    found = {}
    for name, call in {**cases(), **op_cases()}.items():
        if asked.which not in name:
            continue
        outcomes, left, died = failures_of(call, asked.most, asked.threads)
        bad = sum(n for outcome, n in outcomes.items() if not is_good(outcome)) + (left > _LEAK)
        found[name] = {"outcomes": outcomes, "left_bytes": left, "died_at": died, "bad": bad}
        print(f"{name}: {dict(outcomes)}, {left} bytes left", file=sys.stderr, flush=True)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
