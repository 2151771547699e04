"""The tables of docs/explanation/numerics.md, from what was recorded."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deeplab_native._files import atomic_path
from trust.record import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "numerics.md"
_PART = re.compile(r"(<!-- (\w+): .*? -->\n).*?(\n<!-- end -->)", re.DOTALL)

Content = dict[str, Any]


def _table(head: list[str], rows: Iterator[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _op(name: str) -> str:
    first, _, how = name.partition(", ")
    return f"`{first}`" + (f", `{how}`" if "=" in how else f", {how}" if how else "")


def _same(difference: list[float] | None) -> str:
    """A cell of the table of bits: of the result, and of gradients where they differ alone."""
    if difference is None:
        return "-"
    out, gradients = difference
    if not any(difference):
        return "yes"
    return f"{out:.0e}" if out else f"yes; gradients {gradients:.0e}"


def _bits(content: Content) -> str:
    head = [
        "float32",
        "again",
        "batch",
        "threads",
        "layout",
        "alignment",
        "compiled",
        "what differs",
    ]
    again = "run", "process", "fork"

    def rows() -> Iterator[list[str]]:
        for row in content["figures"]["rows"]:
            if row["dtype"] != "float32":
                continue
            found = row["differences"]
            cells = [_same([max(found[k][i] for k in again) for i in (0, 1)])]
            named = head[2:-1]
            cells += [_same(found[k]) for k in named]
            why = {row["reasons"][k]: 0 for k in named if found[k] and any(found[k])}
            yield [_op(row["op"]), *cells, "; ".join(why) or ""]

    return _table(head, rows())


def _error_of(errors: dict[str, Any], part: str) -> str:
    """Ours, and torch's in brackets."""
    if part not in errors["ours"]:
        return "-"
    own = f"{errors['ours'][part]['largest']:.0e}".replace("0e+00", "0")
    if "torch" not in errors:
        return own
    theirs = f"{errors['torch'][part]['largest']:.0e}".replace("0e+00", "0")
    return f"{own} ({theirs})"


def _by_op(content: Content) -> dict[str, dict[tuple[str, str], Any]]:
    found: dict[str, dict[tuple[str, str], Any]] = {}
    for row in content["figures"]["rows"]:
        found.setdefault(row["op"], {})[row["dtype"], row["input"]] = row["errors"]
    return found


def _error(content: Content) -> str:
    head = ["float32", "random", "mean", "offset", "large", "small", "gradients"]

    def rows() -> Iterator[list[str]]:
        for op, errors in _by_op(content).items():
            first = errors["float32", "random"]
            of = [errors.get(("float32", kind)) for kind in ("offset", "large", "small")]
            yield [
                _op(op),
                _error_of(first, "out"),
                f"{first['ours']['out']['mean']:.0e}".replace("0e+00", "0"),
                *("-" if e is None else _error_of(e, "out") for e in of),
                _error_of(first, "gradients"),
            ]

    return _table(head, rows())


def _narrow(content: Content) -> str:
    head = ["", "bfloat16", "its gradients", "float16", "its gradients"]

    def rows() -> Iterator[list[str]]:
        for op, errors in _by_op(content).items():
            cells = [
                _error_of(errors[dtype, "random"], part)
                for dtype in ("bfloat16", "float16")
                for part in ("out", "gradients")
                if (dtype, "random") in errors
            ]
            if cells:
                yield [_op(op), *cells]

    return _table(head, rows())


def _isa(content: Content) -> str:
    sets = content["figures"]["sets"]
    others = sets[1:]
    head = ["float32", *(f"{name} beside {sets[0]}" for name in others), "errors of each"]

    def rows() -> Iterator[list[str]]:
        for row in content["figures"]["rows"]:
            if row["dtype"] == "float32":
                of = row["sets"]
                errors = [_error_of(of[n], "out").split()[0] for n in sets if "ours" in of[n]]
                same = [
                    _same(of[name]["difference"]).replace("yes", "same bits") for name in others
                ]
                yield [_op(row["op"]), *same, ", ".join(errors) or "-"]

    return _table(head, rows())


def _special(content: Content) -> str:
    values = list(dict.fromkeys(row["value"] for row in content["figures"]["rows"]))
    head = ["", "argument", *values]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in content["figures"]["rows"]:
        found.setdefault((row["op"], row["argument"]), {})[row["value"]] = row["outcome"]

    def rows() -> Iterator[list[str]]:
        for (op, argument), of in found.items():
            yield [_op(op), argument, *(of[value] for value in values)]

    return _table(head, rows())


TABLES: dict[str, tuple[str, Callable[[Content], str]]] = {
    "bits": ("bits", _bits),
    "error": ("error", _error),
    "narrow": ("error", _narrow),
    "isa": ("isa", _isa),
    "special": ("special", _special),
}


def read(result: str) -> Content:
    content: Content = json.loads((RESULTS / f"numerics_{result}.json").read_text())
    return content


def parts(text: str) -> list[tuple[str, str]]:
    """What stands above each table, and its name."""
    return [(match[1], match[2]) for match in _PART.finditer(text)]


def filled(text: str) -> str:
    """The page with its tables as they were recorded."""

    def table(match: re.Match[str]) -> str:
        result, make = TABLES[match[2]]
        if not (RESULTS / f"numerics_{result}.json").exists():
            return f"{match[1]}\nNot recorded yet: `python -m trust.numerics {result}`.\n{match[3]}"
        content = read(result)
        machine = content["machine"]
        versions = machine["versions"]
        said = (
            f"{content['date']}, commit {content['commit']}, {machine['processor']}, "
            f"torch {versions['torch']}."
        )
        return f"{match[1]}\n{make(content)}\n\n{said}\n{match[3]}"

    return _PART.sub(table, text)


def main(*, update: bool) -> int:
    text = PAGE.read_text()
    if update:
        with atomic_path(PAGE) as temporary:
            temporary.write_text(filled(text))
    elif filled(text) != text:
        print(f"{PAGE} is not what was recorded: `page --update`", file=sys.stderr)
        return 1
    return 0
