"""Thousands of images through one process: whether its memory is flat after a warm-up.

Resident memory, file descriptors and threads are looked at after every tenth image (of the jobs
and the page: of all processes that do the work). Flat is: the median of the last tenth of the
images is at most 2 % above the median of the tenth that follows the warm-up, the straight line
through all samples after the warm-up rises by no more than that, and there are no more descriptors
or threads. That memory falls, as it may where the allocator gives some back, is no fault.
The warm-up is the first tenth: caches fill, and memory that is kept is asked for. The allocator is
glibc's as it comes: no tuning by the environment, no malloc_trim but that which the page's
server calls when it has grown by 32 MiB.

Photographs are parts of the package's own, 64 to 176 pixels a side (the net's 32 to 88), of four
usual sizes and any between, with 2 to 21 labels; one image in a hundred is none, and refused. They
take some minutes of a core.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from ._process import Growth, Use, growth, shares_of, use_of
from .record import record

Rounds = Callable[[], Iterator[Callable[[int], None]]]
TOLERATED = 2.0  # percent
_EVERY = 10


def here(
    rounds: Rounds, images: int, every: int = _EVERY, minutes: float = float("inf")
) -> tuple[list[int], list[Use]]:
    """What this process had in use after every so many images."""
    end = time.monotonic() + 60 * minutes
    process = rounds()
    image = next(process)
    done, uses = [], []
    for number in range(images):
        if time.monotonic() > end:
            break
        image(number)
        if (number + 1) % every == 0:
            done.append(number + 1)
            uses.append(use_of())
        say(number + 1, images)
    process.close()  # type: ignore[attr-defined]
    return done, uses


def say(done: int, images: int) -> None:
    """How far it is, on stderr."""
    if done % max(1, images // 20) == 0:
        use = use_of()
        print(f"{done} of {images}: {use.resident / 1e6:.1f} MB", file=sys.stderr, flush=True)


def measure(
    what: str, images: int, every: int = _EVERY, minutes: float = float("inf")
) -> tuple[dict[str, Growth], dict[str, Any]]:
    """Growth of each process, or of the workers together; and what else there is to say."""
    if what == "web":
        from ._memory_web import web

        return web(images, every, say, minutes)
    if what in ("jobs", "jobs-segment"):
        from . import _memory_jobs

        job = _memory_jobs.refine if what == "jobs" else _memory_jobs.segment
        return job(images, every, say), {}
    from . import _memory_here

    rounds = {"crf": _memory_here.crf, "net": _memory_here.net}[what]
    done, uses = here(rounds, images, every, minutes)
    return {what: growth(done, uses)}, {"images": done[-1], "at_the_end": shares_of()}


def main(words: list[str] | None = None) -> int:
    """Measures one of them, prints and records it; 1 where memory is not flat."""
    parser = argparse.ArgumentParser(
        prog="python -m trust.load_memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("crf", "net", "jobs", "jobs-segment", "web"))
    parser.add_argument("--images", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch and of the kernels, default: %(default)s"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="fewer images, then; not of jobs"
    )
    asked = parser.parse_args(words)
    if asked.images < 100:
        parser.error(f"--images: expected at least 100, got {asked.images}")
    if asked.what in ("crf", "net"):
        import torch

        torch.set_num_threads(asked.threads)
    start, cpu = time.perf_counter(), time.process_time()
    found, more = measure(asked.what, asked.images, minutes=asked.minutes)
    figures = {
        "images": asked.images,
        "threads": asked.threads,
        "seconds": round(time.perf_counter() - start),
        "processor_seconds": round(time.process_time() - cpu),
        "allocator": " ".join(platform.libc_ver()),
        "allocator_settings": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
        "tolerated_percent": TOLERATED,
        **more,
    }
    if len(found) == 1:
        figures |= next(iter(found.values())).figures()
    else:
        figures["processes"] = {name: one.figures() for name, one in found.items()}
    flat = all(one.is_flat(TOLERATED) for one in found.values())
    command = f"python -m trust.load_memory {asked.what}"
    name = {"web": "load_web_memory", "jobs-segment": "load_jobs_segment"}
    path = record(name.get(asked.what, f"load_{asked.what}"), figures, passed=flat, command=command)
    print(path.read_text())
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
