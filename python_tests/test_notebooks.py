"""The notebooks run, in a new kernel and without a network, and give outputs of the kept kinds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
MOST_BYTES = 400_000
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def execute():
    spec = importlib.util.spec_from_file_location("notebooks_execute", NOTEBOOKS / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.paths() == PATHS and len(PATHS) == 3
    return module.execute


def kinds(notebook) -> list[list[tuple[str, ...]]]:
    """Of each cell of code its outputs: the stream's name, or the types of what is shown."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[(o.get("name", ""), *sorted(o.get("data", ()))) for o in c.outputs] for c in cells]


def lines(notebook) -> list[str]:
    """What is printed, with every number as N."""
    text = "".join(o.text for c in notebook.cells for o in c.get("outputs", []) if "text" in o)
    return [re.sub(r"[\d.]+(e[-+]\d+)?", "N", " ".join(line.split())) for line in text.splitlines()]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_runs_as_it_is_kept(path, execute):
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    assert path.stat().st_size < MOST_BYTES
    assert {name for cell in kinds(kept) for output in cell for name in output} >= {"stdout"}
    done = execute(path)
    assert [c.source for c in done.cells] == [c.source for c in kept.cells]
    assert kinds(done) == kinds(kept)
    assert lines(done) == lines(kept)
    counts = [c.execution_count for c in kept.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))  # kept of one run, from top to bottom
