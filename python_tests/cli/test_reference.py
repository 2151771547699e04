"""The page of commands and options says what the commands say, and they have one vocabulary."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference():
    """.ci/command_line.py"""
    path = ROOT / ".ci" / "command_line.py"
    spec = importlib.util.spec_from_file_location("command_line", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(reference):
    text = reference.PAGE.read_text(encoding="utf-8")
    assert text == reference.page(), "python .ci/command_line.py --update"


def test_help_has_every_option_of_the_page(reference, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for name, command in reference.commands().items():
        help = run(name, "--help").out
        for names in reference.options(command):
            for option in names.split(", "):
                assert option in help or option.strip("[]").lower() in help.lower(), (name, option)


def test_one_vocabulary(reference):
    """What every command, or every job over many images, has under the same name."""
    found = {
        name: {o for names in reference.options(command) for o in names.split(", ")}
        for name, command in reference.commands().items()
    }
    del found["serve"]  # which gives no result, but a page
    for name, options in found.items():
        assert "--json" in options
        assert "--out" not in options
        if name != "info":
            assert {"-o", "--output"} <= options
    run = {"--device", "--workers", "--threads", "--memory", "--resume", "--overwrite"}
    for name in ("crf", "segment", "evaluate", "crf-search"):
        assert run <= found[name]
    for name in ("segment", "convert-weights", "export-onnx"):
        assert {"--model", "--num-classes"} <= found[name]
    for name in ("segment", "evaluate", "export-onnx"):
        assert "--weights" in found[name]
    for name in ("crf", "segment", "evaluate"):
        assert {"--preset", "--w1", "--sigma-alpha", "--iterations", "--scale"} <= found[name]


def test_a_name_means_the_same_everywhere(reference):
    own_meaning = {
        # values of a grid, and what stays fixed, in the search
        *("--w1", "--sigma-alpha", "--sigma-beta", "--w2", "--sigma-gamma"),
        # of a data set, of a convert, of the photographs
        *("--images", "--labels", "--classes", "--crf", "--no-crf", "--palette", "--device"),
        *("-o", "--output", "--weights", "--seed", "--multi-scale", "--overlay", "--no-overlay"),
        *("--num-classes", "--list", "--longest-side"),
    }
    meanings: dict[str, set[str]] = {}
    for command in reference.commands().values():
        for names, one in reference.options(command).items():
            for name in names.split(", ") if names.startswith("-") else ():
                meanings.setdefault(name, set()).add(one.help)
    several = {name for name, texts in meanings.items() if len(texts) > 1}
    assert several <= own_meaning
