"""docs/comparison.md says what the committed results say; how its tables are made."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)


@pytest.fixture
def beside(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import beside_other_projects

    return beside_other_projects


def results(name):
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text())


def test_the_pages_tables_are_the_results(beside):
    text = beside.PAGE.read_text()
    tables = beside.markdown(results("beside_other_projects"))
    placed = beside.placed(text, tables, beside.BEGIN)
    assert placed == text, "python benchmarks/beside_other_projects.py table --update"
    assert tables.count("\n") > 12


def test_the_pages_other_figures_are_the_results(beside):
    """Each row's, by the words with which the page names it."""
    text = beside.PAGE.read_text()
    summary = results("crf_accuracy")["windows 96x128"]["results"]["67/3"]["summary"]
    for name, row in (
        ("pydensecrf", "pydensecrf"),
        ("deeplab_native", "lattice"),
        ("deeplab_native, bridged", "bridged"),
        ('deeplab_native, "after"', "lattice, after"),
        ("MONAI", "MONAI"),
        ("ConvCRF, blur 4 (another model)", "ConvCRF, blur 4"),
        ("ConvCRF, blur 1 (another model)", "ConvCRF, blur 1"),
    ):
        found = summary[row]
        assert f"| {name} | {found['labels']:.2f} % | {found['seconds']:#.2g} |" in text
    photos = results("crf_on_photos")["machine"]["summary"][-1]
    one, two = (photos["ratios"][threads] for threads in ("1", "2"))
    assert f"{one['median']:.1f} times as long as this package on one thread" in text
    assert f"{two['median']:.1f} times on two, at the least" in " ".join(text.split())
    assert f"{one['least']:.1f} and {two['least']:.1f}, and no label differs" in " ".join(
        text.split()
    )
    assert photos["labels_differ"] == 0


def test_tables(beside):
    machine = {"cores": 2, "cpu": "A", "date": "2026-01-02T03:04:05+00:00"}
    part = {"machine": machine, "versions": {"torch": "2.0", "numpy": None}}
    net = {"parameters": 44_000_000, "scores": [1, 21, 41, 41]}
    nets = [
        net | {"name": "first", "median": 3.0},
        {"name": "absent", "left_out": "not installed"},
        net | {"name": "second", "median": 1.5},
    ]
    crfs = [
        {"name": "step", "median": 0.5, "labels_differ": 0.0},
        {"name": "other", "median": 0.25, "labels_differ": 0.001},
    ]
    lines = beside.markdown(
        {"crf": part | {"rows": crfs}, "net, 321 x 321": part | {"rows": nets}}
    ).splitlines()
    assert lines[0].endswith("2 cores of an A, 2 January 2026, torch 2.0:")
    assert "| second | 44.0 M | 41x41 | 1.50 (2.00 x) |" in lines
    assert "| other | 0.25 | 2 x | 0.1 % |" in lines
    assert not any("absent" in line for line in lines)


def test_peers_that_are_not_there_are_named(beside, monkeypatch):
    import _beside_peers

    for package in (
        "torchvision",
        "torchvision.models.segmentation",
        "segmentation_models_pytorch",
    ):
        monkeypatch.setitem(sys.modules, package, None)  # an import of it fails
    monkeypatch.setattr(
        _beside_peers.models, "create_model", lambda *a, **k: _beside_peers.nn.ReLU()
    )
    monkeypatch.setattr(_beside_peers, "ready", lambda net, precision: net)
    found = {name: rest for name, *rest in _beside_peers.nets(None)}
    assert "FOLDER" in found["deeplab-pytorch"][0]
    assert "ModuleNotFoundError" in found["torchvision"][0]
    assert "segmentation_models_pytorch" in found["segmentation_models.pytorch"][0]
    steps = dict(_beside_peers.steps(None, None, None, [1]))
    assert callable(steps["`refine`, 1 thread"]) and "clone" in steps["MONAI's CRF"]
