"""What gpu_suite.py writes: the machine, the figures with their goals, the steps, raw results."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from _goals import figures
from _steps import Outcome

RESULTS = Path(__file__).parent / "results"


def whole(machine: dict, raw: dict[str, dict], outcomes: list[Outcome]) -> dict:
    """The contents of nvidia-<gpu>.json; raw: results by the name of their step."""
    common = {key: machine.get(key) for key in ("commit", "date", "driver", "torch")}
    return {
        "machine": machine,
        "figures": [row | common for row in figures(raw)] if raw else [],
        "steps": [outcome.as_dict() for outcome in outcomes],
        "raw": raw,
    }


def write(path: Path, results: dict) -> None:
    """Writes results whole or not at all; before deeplab_native is built, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(path)


def result_path(gpu: str) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower().replace("nvidia", "")).strip("-")
    return RESULTS / f"nvidia-{slug}.json"


def print_table(rows: list[dict], outcomes: list[Outcome]) -> None:
    """The steps last, where whoever sees only the end of the output finds them."""
    if rows:
        print("\n== figures (goals: + reached, - missed, ? no value)")
    for row in rows:
        mark = {True: "+", False: "-", None: "?" if row["value"] is None else " "}[row["met"]]
        value = "" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
        print(f"{mark} {row['name']:76} {value:18} {row['goal']}")
    print("\n== steps")
    for o in outcomes:
        print(f"{o.status:8} {o.seconds:6.0f} s  {o.name}{': ' + o.reason if o.reason else ''}")
