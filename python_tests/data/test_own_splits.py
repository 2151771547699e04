"""Held-out photographs: the same for the same names, whatever else there is."""

import random

import pytest

from deeplab_native.data.own_splits import SHARE, share_of, split_by_name, split_of

NAMES = [f"photo {i}" for i in range(400)] + ["é", "犬"]


def test_the_same_whatever_the_order_and_number():
    whole = split_by_name(NAMES)
    assert sorted(whole.train + whole.val) == sorted(NAMES)
    assert abs(len(whole.val) / len(NAMES) - SHARE) < 0.05
    shuffled = random.Random(1).sample(NAMES, len(NAMES))
    assert split_by_name(shuffled) == whole
    half = split_by_name(NAMES[:200])
    assert set(half.val) == set(whole.val) & set(NAMES[:200])


def test_it_is_the_same_on_every_machine():
    """Python's own hash is not; these are of SHA-256, and of letters with accents in any form."""
    assert share_of("photo 1") == pytest.approx(0.89705, abs=1e-4)
    assert share_of("e\u0301") == share_of("é")


@pytest.mark.parametrize("count", range(2, 12))
def test_both_parts_have_one(count):
    for start in range(0, 300, 13):
        split = split_by_name(NAMES[start : start + count])
        assert split.train and split.val and not set(split.train) & set(split.val)


def test_lists(tmp_path):
    names = ["a", "b", "c", "d"]
    (tmp_path / "val.txt").write_text("c.jpg\n\nb\n")
    split = split_of(tmp_path, names)
    assert (split.train, split.val) == (["a", "d"], ["b", "c"])
    assert "by val.txt" in split.notes[0]
    (tmp_path / "train.txt").write_text("a\nb\n")
    split = split_of(tmp_path, names)
    assert (split.train, split.val) == (["a", "b"], ["b", "c"])
    assert any("1 photographs are in both lists, as b" in note for note in split.notes)
    (tmp_path / "val.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "train.txt").unlink()
    with pytest.raises(ValueError, match=r"val\.txt: it has all photographs \(leave some"):
        split_of(tmp_path, names)


def test_few_are_told():
    from pathlib import Path

    assert any("so few held out, 1" in note for note in split_of(Path("no"), ["a", "b"]).notes)
    assert len(split_of(Path("no"), NAMES).notes) == 1
    with pytest.raises(ValueError, match="1 photograph with labels; expected two or more"):
        split_of(Path("photos"), ["a"])
