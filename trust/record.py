"""Results of a run, with what they depend on: command, commit, date and machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deeplab_native._files import atomic_path
from deeplab_native._machine import cores, cpu_model, now, versions

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GB, versions."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": cpu_model(),
        "cores": cores(),
        "memory_gb": round(memory / 1e9),
        "versions": versions(),
    }


def commit() -> str | None:
    """The commit of this checkout, "-dirty" where the code differs; None outside of git."""
    head = _git("rev-parse", "--short=9", "HEAD")
    if head is None:
        return None
    # what runs write themselves is no code
    changed = _git("status", "--porcelain", "--", ".", ":!trust/results", ":!docs/trust.md")
    return f"{head}-dirty" if changed else head


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", *arguments], cwd=HERE.parent, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None


def record(
    name: str,
    figures: Mapping[str, Any],
    *,
    passed: bool,
    command: str,
    folder: Path = RESULTS,
) -> Path:
    """Writes `folder`/<name>.json, whole or not at all.

    Args:
        name: of the result, as promises name it.
        figures: what was measured, by name; JSON. Counts, and floats in units that names say.
        passed: whether everything that is promised of it held.
        command: what a reader types to measure it again.
        folder: where results are.
    """
    content = {
        "command": command,
        "commit": commit(),
        "date": now().date().isoformat(),
        "machine": machine(),
        "passed": passed,
        "figures": dict(figures),
    }
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    return path


def earlier(name: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """What `record` wrote the last time; None where there is nothing yet."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found
