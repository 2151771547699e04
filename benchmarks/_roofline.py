"""What a kernel must at least take, from what it has to move and compute: no measurement.

A kernel's bytes are counted twice. "unique" are those of every array that it touches, once: so much
must come through L2, and from or to device memory what L2 cannot keep. "asked" are those that its
threads ask for, gathers in sectors of 32 bytes: so much must come through the L1 caches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

SECTOR = 32  # bytes, of which the caches move whole ones
WARP = 32


@dataclass(frozen=True)
class Ceilings:
    """Of an H200, per second; what is not said to be measured or assumed is from the datasheet."""

    device: float = 4.3e12  # bytes; measured, a copy from device to device. Datasheet: 4.8e12
    l2: float = 7.7e12  # the most that a kernel of the CRF was served with on one (NOTES.md)
    l1: float = 132 * 128 * 1.98e9  # assumed: 128 bytes a clock, shared memory too
    l2_bytes: float = 60e6
    fp32: float = 67e12
    tensor16: float = 788e12  # measured, bf16 matrix product of random data. Datasheet: 989e12
    issue: float = 132 * 4 * 1.98e9  # instructions of warps, one a clock of each scheduler
    launch: float = 1.5e-6  # assumed: seconds between dependent kernels of a graph


@dataclass(frozen=True)
class Issue:
    """Where a kernel's instructions are to be found in its disassembly, and how often they run.

    threads: how many times a thread goes through the outer loop, which is unrolled: it has `marker`
    (a class of instructions) so many times, `of_item` of them for each item. depth: of this loop;
    those around it, over images, have a turn or two for each thread, which is left out. inner:
    (marker, how often) of an inner loop that has this marker. middle: turns of a loop between both.
    least: the shortest way through the outer loop, else all of it: where what could be left out
    never is.
    """

    kernel: str
    threads: float
    marker: str = ""
    of_item: int = 1
    inner: tuple[str, float] | None = None
    middle: float = 0
    least: bool = True
    depth: int = 0


@dataclass(frozen=True)
class Cost:
    """Of all launches of one kernel. new: unique bytes that cannot be in L2: inputs, outputs."""

    kernel: str
    launches: int
    unique: float
    asked: float = 0  # where it is no more than unique
    flops: float = 0
    tensor: tuple[str, float] | None = None  # ceiling, operations
    new: float = 0
    shared: float = 0  # bytes that are read from shared memory, as fast as L1
    issues: Sequence[Issue] = ()

    def __add__(self, other: Cost) -> Cost:
        """Both in one launch."""
        numbers = ("unique", "flops", "new", "shared")
        sums = {name: getattr(self, name) + getattr(other, name) for name in numbers}
        asked = max(self.asked, self.unique) + max(other.asked, other.unique)
        launches = max(self.launches, other.launches)
        issues = [*self.issues, *other.issues]
        return Cost(self.kernel, launches, asked=asked, issues=issues, **sums)


@dataclass(frozen=True)
class Phase:
    """Kernels that run one after the other, `repeats` times, over arrays of `bytes` in all."""

    name: str
    repeats: int
    bytes: float
    costs: Sequence[Cost]


@dataclass
class Bound:
    """Microseconds of a row of the table, launches apart."""

    phase: str
    kernel: str
    launches: int
    unique: float
    asked: float
    device: float
    flops: float
    instructions: float | None
    parts: dict[str, float] = field(default_factory=dict)
    launch_us: float = 0
    uncached_us: float = 0

    def __add__(self, other: Bound) -> Bound:
        """The same kernel again."""
        names = ("launches", "unique", "asked", "device", "flops", "launch_us", "uncached_us")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        issued = None
        if self.instructions is not None and other.instructions is not None:
            issued = self.instructions + other.instructions
        parts = {name: us + other.parts[name] for name, us in self.parts.items()}
        return replace(self, instructions=issued, parts=parts, **sums)

    @property
    def work_us(self) -> float:
        return max(self.parts.values())

    @property
    def bytes_us(self) -> float:
        """As if instructions took no time, but for those of floating point; with launches."""
        rest = (us for name, us in self.parts.items() if name != "instructions")
        return max(rest) + self.launch_us

    @property
    def floor_us(self) -> float:
        return self.work_us + self.launch_us

    @property
    def by(self) -> str:
        if self.launch_us > self.work_us:
            return "launches"
        return max(self.parts, key=self.parts.__getitem__)


def instructions(loops: Sequence[Mapping] | None, issue: Issue) -> float | None:
    """Instructions of warps that a kernel issues; None where its code has no such loops."""
    if not loops:
        return None
    starts = [n for n, loop in enumerate(loops) if loop["depth"] <= issue.depth]
    nests = [loops[a:b] for a, b in zip(starts, [*starts[1:], len(loops)], strict=True)]
    nests = [nest for nest in nests if nest[0]["depth"] == issue.depth]
    if issue.inner:
        nests = [nest for nest in nests if any(loop.get(issue.inner[0]) for loop in nest[1:])]
    if not nests:
        return None

    def marked(loop: Mapping) -> int:
        return loop.get(issue.marker, 0)

    most = max(marked(nest[0]) for nest in nests)
    if issue.marker and not most:
        return None
    outer, *others = min(
        (nest for nest in nests if marked(nest[0]) == most),
        key=lambda nest: nest[0]["instructions"] * (1 if issue.marker else -1),
    )
    turns = issue.threads * issue.of_item / most if issue.marker else issue.threads
    total, around = 0.0, outer["least"]
    if issue.inner:
        marker, count = issue.inner
        # where the marker is densest; of equal ones the least, as of arms of which one runs
        inner = max(others, key=lambda o: (o.get(marker, 0) / o["instructions"], -o["around"]))
        total += count * inner["least"] / inner[marker]
        total += issue.threads * issue.middle * inner["around"]
        if inner["depth"] == issue.depth + 1:
            around = inner["around"]
    return (total + turns * (around if issue.least else outer["instructions"])) / WARP


LoopsOf = Callable[[str], Sequence[Mapping] | None]  # of a kernel by its file and name


def bounds(phase: Phase, ceilings: Ceilings, loops_of: LoopsOf) -> list[Bound]:
    """A row for each kernel of the phase, all repeats together.

    L2 keeps what it can: of the arrays of a phase at least what it cannot hold comes from device
    memory in each repeat, shared out among the kernels by the bytes that they touch.
    """
    unique = sum(cost.unique for cost in phase.costs)
    missed = max(0.0, phase.bytes - ceilings.l2_bytes) / unique if unique else 0
    rows = []
    for cost in phase.costs:
        n, found = phase.repeats, [instructions(loops_of(i.kernel), i) for i in cost.issues]
        issued = sum(found) if found and None not in found else None
        asked = max(cost.asked, cost.unique)
        device = max(cost.new, min(1.0, missed) * cost.unique)
        row = Bound(
            phase.name,
            cost.kernel,
            n * cost.launches,
            n * cost.unique,
            n * asked,
            n * device,
            n * (cost.flops + (cost.tensor[1] if cost.tensor else 0)),
            None if issued is None else n * issued,
        )
        seconds = {
            "device memory": device / ceilings.device,
            "L2": cost.unique / ceilings.l2,
            "L1": (asked + cost.shared) / ceilings.l1,
            "fp32": cost.flops / ceilings.fp32,
            "tensor cores": cost.tensor[1] / getattr(ceilings, cost.tensor[0])
            if cost.tensor
            else 0,
            "instructions": (issued or 0) / ceilings.issue,
        }
        row.parts = {name: 1e6 * n * s for name, s in seconds.items()}
        row.launch_us = 1e6 * row.launches * ceilings.launch
        nothing_kept = max(cost.unique / ceilings.device, asked / ceilings.l2)
        row.uncached_us = max(row.work_us, 1e6 * n * nothing_kept)
        rows.append(row)
    return rows


def rows_of(phases: Sequence[Phase], ceilings: Ceilings, loops_of: LoopsOf) -> list[Bound]:
    """A row for each kernel of a phase, however often it comes."""
    rows: dict[tuple[str, str], Bound] = {}
    for phase in phases:
        for row in bounds(phase, ceilings, loops_of):
            name = row.phase, row.kernel
            rows[name] = rows[name] + row if name in rows else row
    return list(rows.values())


def floor(phases: Sequence[Phase], ceilings: Ceilings) -> float:
    """Microseconds, without instructions."""
    return sum(row.floor_us for row in rows_of(phases, ceilings, lambda kernel: None))
