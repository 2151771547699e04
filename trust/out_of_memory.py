"""Calls under a limit of memory (RLIMIT_AS) that is stepped from nothing to enough.

Each limit is a process of its own, so that memory ends in another place: in a kernel, in a thread
that starts, in torch, in NumPy. Every outcome must be the right result, or a MemoryError, or the
RuntimeError of torch or of a thread that cannot start; and once the limit is gone, the same call in
the same process must give the right bits. A quarter of an hour.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import resource
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._forked import in_child
from .record import record

if TYPE_CHECKING:
    from ._memory_cases import Call

# every layer that has memory of its own
WHICH = (
    "dense_crf", "dense_crf, two labels", "dense_crf, scaled", "dense_crf, gradient",
    "mean_field, 20 dimensions", "MeanField", "DenseCRFLoss", "pydensecrf", "refine", "predict",
)  # fmt: skip
_SECONDS = 120  # without a word: it hangs
_TORCHS = ("DefaultCPUAllocator: ", "cannot start thread ")
_SCALE = 2  # of the pictures' sides: so that a call takes megabytes


def _status(name: str) -> int:
    """Bytes, of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(name)


def _start_torchs_threads() -> None:
    """libgomp ends the process where one of its threads cannot start, whoever asked for it."""
    import torch

    from ._memory_cases import THREADS

    torch.set_num_threads(THREADS)
    values = torch.ones(1 << 20)
    (values + values).sum()


def _digest(call: Call) -> str:
    return hashlib.sha256(call()).hexdigest()


def _measure(call: Call, say: Callable[[Any], None]) -> None:
    """In a child: the right result, and the address space that it takes."""
    _start_torchs_threads()
    before = _status("VmSize")
    digest = _digest(call)
    say({"digest": digest, "takes": _status("VmPeak") - before})


def _limited(call: Call, digest: str, more: int, say: Callable[[Any], None]) -> None:
    """In a child: what comes of it with so many bytes more than there are now."""
    _start_torchs_threads()
    gc.collect()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + more, hard))
    try:
        outcome = "right" if _digest(call) == digest else "wrong result"
    except MemoryError:
        outcome = "MemoryError"
    except RuntimeError as error:
        known = next((words for words in _TORCHS if words in str(error)), None)
        outcome = f"RuntimeError: {known or error}"[:300]
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"[:300]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    if _digest(call) != digest:
        outcome = f"afterwards wrong; {outcome}"
    say({"outcome": outcome})


def outcomes_of(call: Call, steps: int) -> tuple[Counter[str], int]:
    """How often each came, and the bytes that the call takes."""
    measured: dict[str, Any] = {}
    for said in in_child(lambda say: _measure(call, say), _SECONDS):
        measured.update(said)
    outcomes: Counter[str] = Counter()
    for step in range(steps):
        # most of them small, where it ends in other places; the last two are enough
        more = int(measured["takes"] * min(1.1, step / max(1, steps - 2)) ** 3)
        said = list(in_child(lambda say: _limited(call, measured["digest"], more, say), _SECONDS))  # noqa: B023
        *found, last = said
        outcome = found[0]["outcome"] if found else "none"
        outcomes[outcome if last["ended"] == "0" else f"process ended: {last['ended']}"] += 1
    return outcomes, measured["takes"]


def is_good(outcome: str) -> bool:
    """Whether an outcome is what is promised."""
    return outcome in {"right", "MemoryError", *(f"RuntimeError: {words}" for words in _TORCHS)}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="limits of each call")
    parser.add_argument("--which", nargs="+", choices=WHICH, default=list(WHICH))
    parser.add_argument("--results", type=Path, help="folder of the result, in place of trust's")
    asked = parser.parse_args(arguments)
    import torch

    from ._memory_cases import cases

    torch.set_num_threads(1)  # no threads before the children are forked
    all_cases, found = cases(_SCALE), {}
    for name in asked.which:
        outcomes, takes = outcomes_of(all_cases[name], asked.steps)
        found[name] = {"outcomes": outcomes, "takes_mb": round(takes / 1e6)}
        print(f"{name}: {dict(outcomes)}, {takes / 1e6:.0f} MB", file=sys.stderr, flush=True)
    every = sum((Counter(one["outcomes"]) for one in found.values()), Counter())
    bad = {outcome: n for outcome, n in every.items() if not is_good(outcome)}
    figures = {
        "limits": every.total(),
        "calls": len(found),
        "right": every["right"],
        "clean_errors": sum(n for o, n in every.items() if is_good(o) and o != "right"),
        "bad": sum(bad.values()),
        "bad_outcomes": bad,
        "of_each": found,
    }
    how = {} if asked.results is None else {"folder": asked.results}
    passed = not bad and every["right"] > 0 and every.total() > every["right"]
    # as it was asked for
    given = sys.argv[1:] if arguments is None else ()
    command = " ".join(["python -m trust.out_of_memory", *given])
    record("out_of_memory", figures, passed=passed, command=command, **how)
    return not passed


if __name__ == "__main__":
    sys.exit(main())
