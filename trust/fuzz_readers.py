"""Coverage-guided fuzzing of the readers of files: no crash, no hang, memory within a limit.

A reader may refuse a file by a ValueError or OSError that names it; whatever else it does is a
finding, and so are more than two seconds for a file of some kilobytes, and more memory than the
limit of the target. It takes atheris (pip install atheris), which is libFuzzer for Python. The
caffemodel reader does some 8,000 executions a second on one core, the others 1,000 to 10,000, so
that its ten millions take about 20 minutes and each of the others' millions 1 to 17.

Runs add up as long as the code of the reader is the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deeplab_native._machine import now

from .fuzzing.corpus import read_corpus, unpack, write_corpus
from .fuzzing.libfuzzer import Finished, merge, run
from .fuzzing.target import Target
from .fuzzing.targets import TARGETS
from .record import HERE, RESULTS, commit, earlier, record

MILLION = 1_000_000
PACKAGE = HERE.parent / "src" / "deeplab_native"


def goal(name: str) -> int:
    """Executions that are promised."""
    return 10 * MILLION if name == "caffemodel" else MILLION


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("target", choices=[*TARGETS, "all"], help="what reads: " + ", ".join(TARGETS))
    add("--executions", type=int, metavar="N", help="more of them; else what the goal lacks")
    add("--seconds", type=int, default=0, metavar="S", help="at most; 0: no limit")
    add("--corpus", type=Path, metavar="DIR", help="where inputs are kept; else a new folder")
    add("--keep", action="store_true", help="minimise the corpus and write it to trust/corpus")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if find_spec("atheris") is None:
        parser.error("atheris is missing (install it with pip install atheris)")
    names = list(TARGETS) if asked.target == "all" else [asked.target]
    return max(fuzz(name, asked) for name in names)


def fuzz(name: str, asked: argparse.Namespace) -> int:
    """One target; 1 where something was found."""
    source = source_digest(TARGETS[name])
    before = _before(name, source, asked.results)
    executions = asked.executions
    if executions is None:
        executions = max(0, goal(name) - before["executions"])
    with tempfile.TemporaryDirectory(dir=_in_memory()) as scratch:
        folder = asked.corpus or Path(scratch) / "corpus"
        unpack([*TARGETS[name].seeds(), *read_corpus(name)], folder)
        found = run(TARGETS[name], folder, Path(scratch), executions, asked.seconds)
        if asked.keep and not found.artifacts:
            write_corpus(name, merge(TARGETS[name], folder, Path(scratch)))
        for kind, content in found.artifacts:
            kept = asked.results / f"{kind}-{name}-{hashlib.sha1(content).hexdigest()[:12]}"
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            print(f"{kind}: {kept}", file=sys.stderr)
    figures = _figures(name, before, found) | {"source": source}
    passed = not figures["crashes"] and not figures["hangs"]
    command = f"python -m trust.fuzz_readers {name}"
    record(f"fuzz_{name}", figures, passed=passed, command=command, folder=asked.results)
    print(
        f"{name}: {figures['executions']:,} executions of {goal(name):,}, {figures['crashes']} "
        f"crashes, {figures['hangs']} hangs, {figures['edges']} edges"
    )
    return 0 if passed else 1


def source_digest(target: Target) -> str:
    """Of the code that reads: where it changes, the count begins anew."""
    digest = hashlib.sha256()
    for pattern in target.code:
        paths = sorted(PACKAGE.glob(pattern))
        assert paths, pattern
        for path in paths:
            digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _before(name: str, source: str, results: Path) -> dict[str, Any]:
    """Figures of the runs of the same code."""
    there = earlier(f"fuzz_{name}", results)
    figures: dict[str, Any] = there["figures"] if there else {}
    return figures if figures.get("source") == source else {"executions": 0, "runs": []}


def _figures(name: str, before: dict[str, Any], found: Finished) -> dict[str, Any]:
    this = {
        "date": now().date().isoformat(),
        "commit": commit(),
        "executions": found.executions,
        "processor_seconds": round(found.seconds),
    }
    runs = [*before["runs"], this]
    total, took = (sum(run[key] for run in runs) for key in ("executions", "processor_seconds"))
    kinds = [kind for kind, _ in found.artifacts]
    return {
        "executions": total,
        "crashes": before.get("crashes", 0) + len(kinds) - kinds.count("timeout"),
        "hangs": before.get("hangs", 0) + kinds.count("timeout"),
        "edges": max(before.get("edges", 0), found.edges),
        "features": max(before.get("features", 0), found.features),
        "corpus_files": found.corpus,
        "largest_file_bytes": TARGETS[name].max_len,
        "largest_memory_kb": max(before.get("largest_memory_kb", 0), round(found.peak / 1024)),
        "slowest_ms": max(before.get("slowest_ms", 0), round(found.slowest * 1000)),
        "process_mb": max(before.get("process_mb", 0), found.rss_mb),
        "executions_per_second": round(total / max(took, 1)),
        "processor_seconds": took,
        "runs": runs,
    }


def _in_memory() -> str | None:
    """Where files take no disk, if there is such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    sys.exit(main())
