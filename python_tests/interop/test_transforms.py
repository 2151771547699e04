"""`RefineMask` on samples of every form; torchvision's kinds of tensors, and stand-ins for them."""

import pickle
import re
import sys
from collections import namedtuple
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import refine
from deeplab_native.interop import RefineMask, refine_masks
from python_tests.interop.scene import coarse, photo

LABELS = coarse()[0] + 2 * coarse()[1].astype(np.uint8)
WANTED = refine(photo(), LABELS)


def chw() -> torch.Tensor:
    return torch.from_numpy(photo()).permute(2, 0, 1)


def test_a_pair():
    image = chw()
    before = LABELS.copy()
    same, labels = RefineMask()(image, torch.from_numpy(LABELS))
    assert same is image and labels.dtype == torch.uint8
    np.testing.assert_array_equal(labels, WANTED)
    found = RefineMask()((photo(), LABELS[None], 3, "name"))  # (1, H, W) and what is no picture
    assert type(found) is tuple and found[2:] == (3, "name")
    np.testing.assert_array_equal(found[1], WANTED[None])
    np.testing.assert_array_equal(LABELS, before)
    picture, mask = RefineMask()([Image.fromarray(photo()), Image.fromarray(LABELS, "L")])
    assert isinstance(picture, Image.Image) and isinstance(mask, Image.Image)
    np.testing.assert_array_equal(np.asarray(mask), WANTED)


def test_a_dictionary():
    target = {"masks": torch.from_numpy(coarse()), "labels": torch.tensor([1, 2])}
    sample = {"image": chw() / 255, "target": target, "id": 7, "mask": LABELS}
    found = RefineMask(confidence=0.8)(sample)
    np.testing.assert_array_equal(found["mask"], refine(photo(), LABELS, confidence=0.8))
    np.testing.assert_array_equal(
        found["target"]["masks"], refine_masks(photo(), coarse(), confidence=0.8)
    )
    assert found["image"] is sample["image"] and found["target"]["labels"] is target["labels"]
    assert sample["mask"] is LABELS and found["id"] == 7 and list(found) == list(sample)
    named = RefineMask(image_key="photo", mask_keys=["truth"])
    np.testing.assert_array_equal(named({"photo": photo(), "truth": LABELS})["truth"], WANTED)


def test_named_tuples_and_together():
    pair = namedtuple("pair", "image masks")
    found = RefineMask(together=True)(pair(photo(), coarse()))
    assert type(found) is pair
    np.testing.assert_array_equal(found.masks, refine_masks(photo(), coarse(), together=True))


@pytest.fixture
def tv_tensors(monkeypatch):
    """torchvision's, or where it is not installed the part of it that is used, made here."""
    try:
        from torchvision import tv_tensors
    except (ImportError, RuntimeError):  # RuntimeError: it is of another torch
        tv_tensors = ModuleType("torchvision.tv_tensors")
        for name in ("Image", "Mask"):
            made = {"__module__": "torchvision.tv_tensors._tensors"}
            setattr(tv_tensors, name, type(name, (torch.Tensor,), made))
        tv_tensors.wrap = lambda value, *, like: value.as_subclass(type(like))
        monkeypatch.setitem(sys.modules, "torchvision.tv_tensors", tv_tensors)
    return tv_tensors


def test_kinds_of_tensors(tv_tensors):
    image = chw().as_subclass(tv_tensors.Image)
    labels = torch.from_numpy(LABELS).as_subclass(tv_tensors.Mask)
    objects = torch.from_numpy(coarse()).as_subclass(tv_tensors.Mask)
    other = torch.zeros(60, 80)
    found = RefineMask()({"x": other, "y": [image, {"m": labels}, objects]})
    assert found["x"] is other and found["y"][0] is image
    assert type(found["y"][1]["m"]) is type(found["y"][2]) is tv_tensors.Mask
    np.testing.assert_array_equal(found["y"][1]["m"].as_subclass(torch.Tensor), WANTED)
    assert found["y"][2].dtype == torch.bool and found["y"][2].shape == (2, 60, 80)


def test_it_is_a_module_that_says_its_options_and_goes_to_workers():
    transform = RefineMask(confidence=0.8, margin=40)
    assert repr(transform) == "RefineMask(together=False, margin=40, confidence=0.8)"
    copied = pickle.loads(pickle.dumps(transform))
    np.testing.assert_array_equal(
        copied(photo(), LABELS)[1], refine(photo(), LABELS, confidence=0.8)
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RefineMask(confidence=2), ValueError, "`confidence`"),
        (lambda: RefineMask(sigma=2), TypeError, "sigma"),
        (lambda: RefineMask(mask_keys="mask"), TypeError, "`mask_keys`: expected a list of names"),
        (lambda: RefineMask()({"photo": 3}), ValueError, "sample: no picture (expected an entry"),
        (lambda: RefineMask()(photo()), ValueError, "sample: no mask (expected a tv_tensors.Mask"),
        (lambda: RefineMask()({"image": photo(), "label": LABELS}), ValueError, "no mask"),
        (lambda: RefineMask()(photo(), LABELS[1:]), ValueError, "height"),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=re.escape(message) if message != "height" else "for a picture"):
        make()
