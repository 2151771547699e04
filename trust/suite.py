"""Records what the tests did that promises name, in one run of all of them.

    python -m trust.suite                  # runs pytest: 13 minutes on two cores
    python -m trust.suite --junit FILE     # of a run with `pytest --junitxml FILE`
    python -m trust.suite --junit FILE --check    # records nothing; fails as the others do

It is an error if a promise's test failed, or if all tests of a promise were left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .promises import ROOT, Promise, read_all
from .record import record

NAME = "suite"


def outcomes(junit: Path) -> dict[str, Counter[str]]:
    """passed, skipped and failed by `file::function`, parametrisations together."""
    found: dict[str, Counter[str]] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome = "failed"
        else:
            outcome = "skipped" if "skipped" in kinds else "passed"
        # without a class: of a module that was skipped as a whole
        module = case.get("classname") or case.get("name") or ""
        selector = f"{_file(module)}::{(case.get('name') or '').partition('[')[0]}"
        found.setdefault(selector, Counter())[outcome] += 1
    return found


def _file(module: str) -> str:
    parts = module.split(".")
    while parts and not (ROOT / "/".join(parts)).with_suffix(".py").is_file():
        parts.pop()  # a class of tests
    return f"{'/'.join(parts)}.py"


def of_selector(selector: str, found: dict[str, Counter[str]]) -> Counter[str]:
    """What the tests of a file, or of one function, did."""
    counts: Counter[str] = Counter()
    for name, outcome in found.items():
        if selector in (name, name.partition("::")[0]):
            counts += outcome
    return counts


def _promises() -> Iterator[Promise]:
    for section in read_all():
        yield from section.promises


def failures(found: dict[str, Counter[str]]) -> list[str]:
    """Promises that the run does not bear out."""
    wrong = []
    for promise in _promises():
        counts: Counter[str] = Counter()
        for selector in promise.tests:
            counts += of_selector(selector, found)
        if counts["failed"]:
            wrong.append(f"{promise.promise} {counts['failed']} of its tests failed")
        elif promise.tests and not counts["passed"]:
            wrong.append(f"{promise.promise} None of its tests ran: {', '.join(promise.tests)}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="of a run that has been")
    parser.add_argument("--check", action="store_true", help="record nothing")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        junit = args.junit or Path(folder) / "junit.xml"
        if not args.junit:
            subprocess.run([sys.executable, "-m", "pytest", f"--junitxml={junit}"], cwd=ROOT)
        found = outcomes(junit)
    wrong = failures(found)
    for line in wrong:
        print(f"!!! {line}", file=sys.stderr)
    if not args.check:
        total: Counter[str] = sum(found.values(), Counter())
        named = sorted({selector for promise in _promises() for selector in promise.tests})
        figures = {outcome: total[outcome] for outcome in ("passed", "skipped", "failed")}
        figures["tests"] = {s: dict(sorted(of_selector(s, found).items())) for s in named}
        record(NAME, figures, passed=not wrong and not total["failed"], command="pytest")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
