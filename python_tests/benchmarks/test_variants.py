"""The switch of variants, and that every choice can be timed beside the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deeplab_native import _variants

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def switches(monkeypatch):
    monkeypatch.setattr(_variants, "CHOICES", {"a": ("x", "y"), "b": ("z", "x")})
    monkeypatch.setattr(_variants, "_changed", None)


def test_first_choice_is_the_default(switches):
    assert (_variants.chosen("a"), _variants.number("b")) == ("x", 0)


def test_use_holds_within_only(switches):
    with _variants.use({"a": "y"}), _variants.use({"b": "x"}):
        assert (_variants.chosen("a"), _variants.number("b")) == ("y", 1)
    assert _variants.chosen("a") == "x"


def test_environment(switches, monkeypatch):
    monkeypatch.setenv(_variants.ENVIRONMENT, " a=y, b=x,")
    assert (_variants.chosen("a"), _variants.chosen("b")) == ("y", "x")


@pytest.mark.parametrize(
    ("choices", "message"),
    [({"c": "x"}, "no switch 'c'; there are a, b"), ({"a": "z"}, "a has no choice 'z', but x, y")],
)
def test_unknown(switches, choices, message):
    with pytest.raises(ValueError, match=message), _variants.use(choices):
        pass


def test_every_switch_has_cases(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _variant_cases import CASES

    assert set(CASES) == set(_variants.CHOICES)


@pytest.mark.unsanitized  # whole nets among them
def test_every_choice_runs_and_agrees(emulator):
    command = [sys.executable, BENCHMARKS / "bench_variants.py", "--emulated"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name, choices in _variants.CHOICES.items():
        assert name in done.stdout and all(choice in done.stdout for choice in choices)
