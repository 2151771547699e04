"""The file of counts: whole images or none, whatever happens."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
import torch

from deeplab_native.cli.evaluate_image import pack, unpack
from deeplab_native.cli.evaluate_store import Store

SETTINGS = {"root": "here", "widths": 2}
SHAPE = (3, 4, 4)


def counts(seed):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2**40, SHAPE) % 3 * 2**33)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "counts.sqlite", SETTINGS)
    yield store
    store.close()


def test_packing_keeps_every_count():
    for values in (counts(0), counts(0) * 0, counts(1) + 1):
        assert np.array_equal(unpack(pack(values), SHAPE), values.numpy())
    with pytest.raises(ValueError, match="damaged counts: a place outside"):
        unpack(pack(counts(0)), (1, 4, 4))
    with pytest.raises(ValueError, match="damaged counts"):
        unpack(b"what", SHAPE)


def test_sums_of_the_images_that_are_asked_for(store, tmp_path):
    for i, name in enumerate("abc"):
        store.add(name, "[]", {"x": pack(counts(i)), "y": pack(counts(i + 10))})
    store.add("c", "[]", {"x": pack(counts(2)), "y": pack(counts(12))})  # again: counted once
    store.close()
    again = Store(tmp_path / "counts.sqlite", dict(SETTINGS))
    assert again.done() == {"a": "[]", "b": "[]", "c": "[]"}
    assert np.array_equal(again.total("x", "abc", SHAPE), sum(counts(i) for i in range(3)).numpy())
    assert np.array_equal(again.total("y", "ac", SHAPE), (counts(10) + counts(12)).numpy())
    again.close()


def test_a_full_disk_costs_one_image(store, tmp_path):
    store.add("a", "[]", {"x": pack(counts(0))})
    store._database.execute("PRAGMA max_page_count = 8")
    big = np.random.default_rng(0).bytes(100_000)
    with pytest.raises(OSError, match=r"counts\.sqlite: database or disk is full \(free the disk"):
        store.add("b", "[]", {"x": pack(counts(1)), "y": big})
    assert list(store.done()) == ["a"]
    store._database.execute("PRAGMA max_page_count = 1000")
    store.add("b", "[]", {"x": pack(counts(1)), "y": big})
    assert list(store.done()) == ["a", "b"]


def test_other_settings(store, tmp_path):
    with pytest.raises(ValueError, match=r"other settings: widths 2, now 3 \(give another"):
        Store(tmp_path / "counts.sqlite", {**SETTINGS, "widths": 3})


def test_damaged_files(store, tmp_path):
    store.add("a", "[]", {"x": pack(counts(0)), "y": b"what"})
    with pytest.raises(ValueError, match=r"counts\.sqlite: a: damaged counts"):
        store.total("y", "a", SHAPE)
    path = tmp_path / "text.sqlite"
    path.write_text("no database, but long enough to be looked at" * 30)
    with pytest.raises(ValueError, match=r"text\.sqlite: damaged: .*--overwrite"):
        Store(path, SETTINGS)
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(ValueError, match=r"other\.sqlite: not written by this command"):
        Store(tmp_path / "other.sqlite", SETTINGS)
    with pytest.raises(OSError, match="unable to open"):
        Store(tmp_path / "none/counts.sqlite", SETTINGS)
