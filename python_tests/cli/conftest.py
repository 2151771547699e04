"""Fixtures of the tests of the command line."""

from __future__ import annotations

import pytest

from python_tests.cli.evaluate_cases import write_shapes


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A drawn data set and its scores in the current folder."""
    monkeypatch.chdir(tmp_path)
    write_shapes()
    return tmp_path
