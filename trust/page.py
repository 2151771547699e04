"""docs/trust.md: every promise, what shows it, and what was measured; from the results alone.

python -m trust.page            # fails where the page is not what the results say
python -m trust.page --update   # writes it
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deeplab_native._files import atomic_path

from .promises import ROOT, Promise, Section, figure_of, read_all
from .record import RESULTS
from .suite import NAME as SUITE

PAGE = ROOT / "docs" / "trust.md"
_VERSIONS = ("torch", "numpy", "python")

_HEAD = """\
# What is promised, and what shows it

<!-- written by `python -m trust.page --update`, from trust/promises and what was recorded -->
Every promise of the README, and those of the themes below it: with the tests that fail if it
breaks, what was measured, a command that does it again, when and where it was. Nothing on this page
is typed: the promises are in [trust/promises](../trust/promises), the figures in
[trust/results](../trust/results) and [benchmarks/results](../benchmarks/results). A test fails
where the page is not made of them, where a test that it names is not there, or where a sentence of
the README is in no promise. A promise without a figure of its own has how many of its tests
passed, and how many were skipped (most for want of a GPU), in one run of all: {suite}.
"""


@dataclass
class Machines:
    """Letters for the machines, in the order in which the page names them."""

    letters: dict[str, str] = field(default_factory=dict)

    def letter(self, machine: Mapping[str, Any]) -> str:
        """The letter of one, as trust/record.py or a benchmark describes it."""
        versions = machine.get("versions", machine)
        parts = [
            machine.get("gpu"),
            machine.get("processor") or machine.get("cpu"),
            f"{machine['cores']} cores" if "cores" in machine else None,
            f"{machine['memory_gb']} GB" if "memory_gb" in machine else None,
            *(
                f"{name} {versions[name]}"
                for name in ("torch", "numpy", "python")
                if name in versions
            ),
        ]
        described = ", ".join(part for part in parts if part)
        return self.letters.setdefault(described, chr(ord("A") + len(self.letters)))

    def lines(self) -> Iterator[str]:
        for described, letter in self.letters.items():
            yield f"- **{letter}**: {described}"


def _machine_of(content: Any) -> dict[str, Any]:
    """The first description of a machine in a benchmark's results, however deep."""
    if isinstance(content, dict):
        if isinstance(content.get("machine"), dict):
            return content["machine"]
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            if found := _machine_of(part):
                return found
    return {}


def _entry(promise: Promise, suite: Mapping[str, Any], machines: Machines) -> str:
    measured = promise.measured()
    if measured is None:
        counts: Counter[str] = Counter()
        for selector in promise.tests:
            counts.update(suite["figures"]["tests"].get(selector, {}))
        figure = f"{counts['passed']:,} passed" if counts["passed"] else "not run yet"
        figure += f", {counts['skipped']:,} skipped" if counts["skipped"] else ""
        figure += f", **{counts['failed']:,} failed**" if counts["failed"] else ""
        about, date, commit = suite["machine"], suite["date"], suite["commit"]
    else:
        figure = figure_of(promise)
        about = measured["machine"] if promise.result else _machine_of(measured)
        date = measured["date"] if promise.result else about.get("date", "")[:10]
        commit = measured["commit"] if promise.result else about.get("commit", "")
        if measured.get("passed") is False:
            figure = f"**missed**: {figure}"
    links = ", ".join(f"[{_short(name)}](../{name.partition('::')[0]})" for name in promise.tests)
    if promise.command:
        shown = [f"`{promise.command}`", *([f"tests {links}"] if links else [])]
    else:
        shown = [f"`pytest {' '.join(promise.tests)}`"]
    where = f"{date}, commit `{commit}`, machine {machines.letter(about)}"
    # two spaces: the rest stands below, in a line of its own
    return f"- **{promise.promise}** {figure}.  \n  {'; '.join([*shown, where])}."


def _short(selector: str) -> str:
    file, _, function = selector.partition("::")
    return (function or file.rpartition("/")[2].removesuffix(".py")).replace("_", r"\_")


def page(sections: list[Section], suite: Mapping[str, Any]) -> str:
    """The page, whole."""
    figures = suite["figures"]
    said = ", ".join(f"{figures[key]:,} {key}" for key in ("passed", "skipped", "failed"))
    machines = Machines()
    body = []
    for section in sections:
        body += [f"## {section.title}", *([section.text] if section.text else []), ""]
        body += [_entry(promise, suite, machines) for promise in section.promises]
        body.append("")
    return "\n".join([_HEAD.format(suite=said), *body, "## Machines", "", *machines.lines(), ""])


def current() -> str:
    """The page by what is recorded now."""
    return page(read_all(), json.loads((RESULTS / f"{SUITE}.json").read_text()))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="write it")
    args = parser.parse_args()
    text = current()
    if args.update:
        with atomic_path(PAGE) as temporary:
            temporary.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print(f"{PAGE} is not what the results say: python -m trust.page --update", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
