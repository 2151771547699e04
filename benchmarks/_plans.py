"""What gpu_suite.py does in so many minutes: what matters most first.

Seconds are what a step is expected to take on one H200 beside 16 cores, with the start of its
process, some 7 s: build, tests, end-to-end and copy benchmarks as they took on 27 November 2026,
the rest by the times of their calls there and how many there are. A step may take twice that, as
long as time is left; one that is late costs those after it, not those before it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

MINUTES = (4, 7, 12)
RESERVE_S = 10  # to start, to write the results and to print them


@dataclass(frozen=True)
class Step:
    """One process; those that stand together run side by side, the others alone.

    name: its first word says what runs, a benchmark's script or "build", "test", "sanitize".
    """

    name: str
    seconds: float
    arguments: tuple[str, ...] = ()
    together: bool = False


def cores() -> int:
    return len(os.sched_getaffinity(0))


def thread_counts() -> tuple[str, ...]:
    """1, 2, 4, 8 and 16, as far as the machine has cores."""
    return tuple(str(n) for n in (1, 2, 4, 8, 16) if n <= cores())


def checks(seconds: float, *tools: str) -> list[Step]:
    """Tests and compute-sanitizer, nothing timed beside them."""
    return [
        Step("test", seconds, together=True),
        *(Step(f"sanitize {tool}", seconds, together=True) for tool in tools),
    ]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CUDA = "--device cuda"
_CRF = _words(f"{_CUDA} --batch 1 16 --min-time 0.1 --cases 375x500x21")
_LARGE = _words(f"{_CUDA} --min-time 0.1 --cases 1024x2048")
_E2E = _words(f"{_CUDA} --min-time 0.2 --batch 1 8 --size 513 --nets deeplab_resnet101_aspp")
_HEAD = _words(f"{_CUDA} --parts head --passes inference --min-time 0.05 --dtype bfloat16")
_CONV = _words(f"{_CUDA} --min-time 0.02")  # for the table of "auto": conv_table.py
_BUILD = Step("build", 45)
ON_THE_CPU = "bench_crf on the CPU"
MADE_UP = "bench_crf made-up scores"  # of which no label can be left out: as without --voc

PLANS: dict[int, list[Step]] = {
    4: [
        _BUILD,
        Step("bench_variants", 40),
        Step("bench_crf", 25, _CRF),
        Step("bench_e2e", 20, (*_E2E, "--dtype", "bfloat16")),
        *checks(70, "memcheck"),
        Step("bench_aspp", 12, _HEAD),
        Step("bench_space_to_batch", 12),
    ],
    7: [
        _BUILD,
        Step("bench_variants", 55),
        Step("bench_crf", 25, _CRF),
        Step("bench_e2e", 28, (*_E2E, *_words("--dtype bfloat16 float32"))),
        *checks(85, "memcheck", "racecheck", "initcheck"),
        Step("bench_conv", 35, (*_CONV, *_words("--dtype bfloat16 --minutes 0.4"))),
        Step("bench_aspp", 25, (*_HEAD, "float32", "tfloat32")),
        Step("bench_space_to_batch", 12),
        Step("bench_kernels", 15),
        Step("bench_crf 1024x2048", 20, (*_LARGE, *_words("--batch 1 --no-peer"))),
        Step(MADE_UP, 20, _CRF),
        Step(ON_THE_CPU, 20, ("--cases", "375x500x21 67/3", "--min-runs", "3")),
        Step("bench_permutohedral", 20, _words(f"{_CUDA} --min-time 0.1")),
    ],
    12: [
        _BUILD,
        Step("bench_variants", 75),
        Step("bench_crf", 25, _CRF),
        Step("bench_e2e", 28, (*_E2E, *_words("--dtype bfloat16 float32"))),
        *checks(110, "memcheck", "racecheck", "initcheck", "synccheck"),
        Step("bench_conv", 120, (*_CONV, *_words("--minutes 1.8"))),
        Step("bench_aspp", 25, (*_HEAD, "float32", "tfloat32")),
        Step("bench_space_to_batch", 12),
        Step("bench_kernels", 15),
        Step("bench_crf 1024x2048", 80, (*_LARGE, *_words("--batch 1 16"))),
        Step(MADE_UP, 25, _CRF),
        Step(ON_THE_CPU, 45, _words("--cases 375x500x21 --min-runs 3")),
        Step("bench_permutohedral", 25, _words(f"{_CUDA} --min-time 0.2")),
        Step(
            "bench_e2e LargeFOV",
            25,
            _words(f"{_CUDA} --min-time 0.2 --batch 1 8 --size 513 --nets deeplab_vgg16_largefov")
            + _words("--dtype bfloat16 float32"),
        ),
        Step("bench_aspp training", 40, _words(f"{_CUDA} --min-time 0.05 --passes training")),
    ],
}

_SHORT = _words("--min-runs 2 --min-time 0")
# The same on the CPU, small: name -> arguments, or why not: what is the same but for its size there
DRY: dict[str, tuple[str, ...] | str] = {
    "build": "a dry run takes what is installed",
    "bench_variants": _words("--emulated"),
    "bench_crf": _words("--quick --no-peer --threads 1"),
    "bench_crf 1024x2048": "as bench_crf",
    MADE_UP: "as bench_crf",
    ON_THE_CPU: _words("--quick --no-peer --cases x2"),
    "bench_e2e": ("--quick",),
    "bench_e2e LargeFOV": "as bench_e2e",
    "bench_conv": ("--layers", "res4", *_SHORT),
    "bench_aspp": _words("--parts upsampling --batch 1 --size 9 --passes inference") + _SHORT,
    "bench_aspp training": _words("--parts upsampling --batch 1 --size 9 --passes training")
    + _SHORT,
    "bench_space_to_batch": ("--quick",),
    "bench_kernels": ("--device", "cpu", "--quick"),
    "bench_permutohedral": _words("--size 24 32 --sigmas 80/13 --min-time 0"),
}


def plan_for(minutes: int) -> int:
    """The largest plan that fits; raises ValueError where none does."""
    fitting = [m for m in MINUTES if m <= minutes]
    if not fitting:
        raise ValueError(f"expected {MINUTES[0]} minutes or more, got {minutes}")
    return fitting[-1]


def groups(plan: list[Step]) -> Iterator[list[Step]]:
    """What runs at the same time, in order."""
    for together, steps in groupby(plan, key=lambda step: step.together):
        if together:
            yield list(steps)
        else:
            yield from ([step] for step in steps)


def expected_s(plan: list[Step]) -> float:
    return sum(max(step.seconds for step in group) for group in groups(plan))


def shown(plan: list[Step], minutes: int) -> str:
    """The plan as it is printed: seconds from the start, and what begins then."""
    lines, start = [], 0.0
    for group in groups(plan):
        seconds = max(step.seconds for step in group)
        lines.append(f"{start:5.0f} s  + {seconds:3.0f} s  {', '.join(s.name for s in group)}")
        start += seconds
    lines.append(f"{start:5.0f} s of {60 * minutes - RESERVE_S}")
    return "\n".join(lines)
