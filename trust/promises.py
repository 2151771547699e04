"""What is promised, and what shows it: promises/*.yaml, read and checked.

A file is a section of the page: `title`, perhaps `text`, and `promises`. Of a promise:

- `promise`: one sentence that a user understands;
- `tests`: files of tests, or `file::function`;
- `command`: what measures it again; without it, pytest with these tests;
- `result`: the name of results/<name>.json, or `benchmark`, that of benchmarks/results/<name>.json;
  without either, the figure is how many of the tests passed in the recorded run of all;
- `figure`: what to print of the result, by `str.format`: "{crashes} crashes", "{rows[0][ms]:.1f}";
- `readme`: phrases of the sentences of README.md that it covers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from .record import HERE, RESULTS

ROOT = HERE.parent
FOLDER = HERE / "promises"
# the order of the page
THEMES = (
    "start",
    "crf",
    "gpu",
    "ops",
    "nets",
    "training",
    "numerics",
    "sanitizers",
    "operators",
    "readers",
    "hostile_input",
    "load",
    "interruptions",
    "faults",
    "supply_chain",
)


class PromiseError(ValueError):
    """A file of promises that says what cannot be; names the file and the promise."""


class Values(dict[str, Any]):
    """An object of JSON; "{threads[2]}" of str.format looks for the name "2" in it."""

    def __missing__(self, key: object) -> Any:
        if isinstance(key, int):
            return self[str(key)]
        raise KeyError(key)


@dataclass(frozen=True)
class Promise:
    """One promise, and where its figure comes from."""

    promise: str
    tests: tuple[str, ...] = ()
    command: str = ""
    result: str = ""
    benchmark: str = ""
    figure: str = ""
    readme: tuple[str, ...] = ()

    def measured(self) -> dict[str, Any] | None:
        """What was recorded for it alone, whole; None where its tests are all that shows it."""
        if not (self.result or self.benchmark):
            return None
        folder, name = (
            (RESULTS, self.result)
            if self.result
            else (ROOT / "benchmarks" / "results", self.benchmark)
        )
        return json.loads((folder / f"{name}.json").read_text(), object_hook=Values)


@dataclass(frozen=True)
class Section:
    """A section of the page."""

    theme: str
    title: str
    text: str
    promises: tuple[Promise, ...]


def read_all(folder: Path = FOLDER) -> list[Section]:
    """Every section, in the page's order; raises PromiseError."""
    here = {path.stem for path in folder.glob("*.yaml")}
    if unknown := here - set(THEMES):
        raise PromiseError(f"{folder}: {', '.join(sorted(unknown))}: not in THEMES, so of no place")
    return [read(folder / f"{theme}.yaml") for theme in THEMES if theme in here]


def read(path: Path) -> Section:
    """One file; raises PromiseError."""
    content = yaml.safe_load(path.read_text())
    known = {field.name for field in fields(Promise)}
    promises = []
    for entry in content["promises"]:
        where = f"{path.name}: {str(entry.get('promise'))[:60]}"
        if unknown := entry.keys() - known:
            raise PromiseError(f"{where}: unknown: {', '.join(sorted(unknown))}")
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
        promise = Promise(**given)
        _check(promise, where)
        promises.append(promise)
    return Section(path.stem, content["title"], content.get("text", "").strip(), tuple(promises))


def _check(promise: Promise, where: str) -> None:
    for selector in promise.tests:
        file, _, function = selector.partition("::")
        if not (ROOT / file).is_file():
            raise PromiseError(f"{where}: no file {file}")
        if function and not re.search(rf"^\s*def {function}\(", (ROOT / file).read_text(), re.M):
            raise PromiseError(f"{where}: no test {function} in {file}")
    if not (promise.tests or promise.result or promise.benchmark):
        raise PromiseError(f"{where}: neither tests nor a result: nothing shows it")
    if bool(promise.figure) != bool(promise.result or promise.benchmark):
        raise PromiseError(f"{where}: `figure` says what to print of `result` or `benchmark`")
    if promise.figure and not promise.command:
        raise PromiseError(f"{where}: `command` is missing: what measured that?")
    if promise.figure:
        try:
            figure_of(promise)
        except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise PromiseError(f"{where}: {promise.figure!r}: {error!r}") from None


def figure_of(promise: Promise) -> str:
    """The figure, from what was recorded for it."""
    content = promise.measured()
    assert content is not None
    values = content["figures"] if promise.result else content
    # a benchmark's file can be a list, or have names that are no words
    return promise.figure.format(values, **(values if isinstance(values, dict) else {}))
