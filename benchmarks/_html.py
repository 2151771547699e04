"""The report of a benchmark as one HTML file: a chart of the times, and tables of all numbers."""

from __future__ import annotations

import shlex
import statistics
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deeplab_native.viz import HTMLReport, Spread, draw_bench_chart

_TIMES = ("timings", "seconds")  # of a result: way -> what it took
_MOST_CHARTED = 30  # cases: a chart of more says less than its table
_NAME_WIDTH = 26  # letters on a line beside the chart
_IN_HTML = {"cpu", "cores", "torch", "python", "deeplab_native", "date"}  # HTMLReport has its own


def write_html(path: str | Path, document: Mapping[str, Any]) -> None:
    """`document` is what --json writes: "machine", "arguments", and results of whatever form."""
    script = Path(sys.argv[0])
    arguments = [*sys.argv[1:]]
    machine = document.get("machine", {})
    facts = {key: str(value) for key, value in machine.items() if key not in _IN_HTML and value}
    title = script.stem.removeprefix("bench_").replace("_", " ")
    command = shlex.join(["python", f"benchmarks/{script.name}", *arguments])
    html = HTMLReport("Benchmark", title, command, facts)
    results = document.get("results")
    if isinstance(results, list) and all(isinstance(one, dict) for one in results):
        _add_results(html, results)
    else:
        html.section("Results")
        rest = {k: v for k, v in document.items() if k not in ("machine", "arguments")}
        html.table(["what", "value"], [[name, _text(value)] for name, value in _leaves(rest)])
    if document.get("arguments"):
        html.section("Arguments")
        html.facts({k: v for k, v in document["arguments"].items() if v is not None})
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    html.write(path)


def _add_results(html: HTMLReport, results: Sequence[dict[str, Any]]) -> None:
    names = _names(results)
    times = {name: _times(one) for name, one in zip(names, results, strict=True)}
    times = {name: measured for name, measured in times.items() if measured}
    if times:
        html.section("Times")
        if len(times) <= _MOST_CHARTED:
            charted = {textwrap.fill(name, _NAME_WIDTH): one for name, one in times.items()}
            html.figure(
                draw_bench_chart(charted),
                "Chart: milliseconds of every case and way. The table below has the numbers.",
                note="Milliseconds, median; the thin line is from the first to the last decile.",
            )
        ways = list(dict.fromkeys(way for measured in times.values() for way in measured))
        html.table(
            ["case", *ways],
            [
                [name, *(_spread(measured[way]) if way in measured else "" for way in ways)]
                for name, measured in times.items()
            ],
            note="Milliseconds, median (first to last decile).",
        )
    others = [dict(_leaves({k: v for k, v in r.items() if not _is_name(k, v)})) for r in results]
    columns = list(dict.fromkeys(key for one in others for key in one))
    if columns:
        html.section("Other numbers")
        rows = zip(names, others, strict=True)
        html.table(
            ["case", *columns],
            [[name, *(_text(one.get(key)) for key in columns)] for name, one in rows],
        )


def _names(results: Sequence[dict[str, Any]]) -> list[str]:
    """What tells each of the results from the others, of what they say of themselves."""
    parts = [dict(_leaves({k: v for k, v in r.items() if _is_case(k, v)})) for r in results]
    same = (
        {
            key
            for key in parts[0]
            if len(parts) > 1 and len({str(one.get(key)) for one in parts}) == 1
        }
        if parts
        else set()
    )
    names: list[str] = []
    for number, one in enumerate(parts, 1):
        said = [
            str(value) if isinstance(value, str) else f"{key.rpartition('.')[2]} {_text(value)}"
            for key, value in one.items()
            if key not in same
        ]
        name = ", ".join(said) or f"case {number}"
        names.append(name if name not in names else f"{name} ({number})")
    return names


def _is_case(key: str, value: Any) -> bool:
    return key == "case" or isinstance(value, str) or (isinstance(value, int) and key != "photos")


def _is_name(key: str, value: Any) -> bool:
    return key in _TIMES or _is_case(key, value)


def _times(result: Mapping[str, Any]) -> dict[str, Spread]:
    """In milliseconds; of a list of runs its middle, its least and its most."""
    found = {}
    for way, value in next((result[key] for key in _TIMES if result.get(key)), {}).items():
        if isinstance(value, Mapping) and "median" in value:
            seconds = (value["median"], value["p10"], value["p90"])
        elif isinstance(value, list) and value:
            seconds = (statistics.median(value), min(value), max(value))
        elif isinstance(value, int | float):
            seconds = (value, value, value)
        else:
            continue
        if min(seconds) > 0:
            found[way] = Spread(*(1e3 * one for one in seconds))
    return found


def _spread(one: Spread) -> str:
    middle = f"{one.median:.3g}" if one.median < 1000 else f"{one.median:,.0f}"
    return middle if one.low == one.high else f"{middle} ({one.low:.3g}-{one.high:.3g})"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(path, number or text) of nested objects."""
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _leaves(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(v, dict | list) for v in value):
        for i, one in enumerate(value):
            yield from _leaves(one, f"{name}[{i}]")
    else:
        yield name, value


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
