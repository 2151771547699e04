"""A fixture for what is warned of once in a process; needs no torch, as the drop-in's tests."""

from __future__ import annotations

import warnings

import pytest

from deeplab_native import _image_range


@pytest.fixture
def said(monkeypatch):
    """Warnings of an image's values so far, as if none had been said in this process."""
    monkeypatch.setattr(_image_range, "_warned", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught
