"""Masks of objects, one by one and together; detections of supervision and Ultralytics."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import refine
from deeplab_native.interop import boxes_of, refine_detections, refine_masks
from python_tests.interop.scene import coarse, iou, photo, truth


@pytest.mark.parametrize("how", [{}, {"together": True}, {"margin": 30}])
def test_masks_get_the_outlines_of_the_objects(how):
    masks = coarse()
    before = masks.copy()
    refined = refine_masks(photo(), masks, **how)
    assert refined.dtype == bool and refined.shape == masks.shape
    assert min(map(iou, before, truth())) < 0.79
    assert min(map(iou, refined, truth())) > 0.99
    np.testing.assert_array_equal(masks, before)


def test_each_mask_by_itself_is_what_refine_makes():
    masks = coarse()
    masks[1] |= masks[0]  # they may overlap
    refined = refine_masks(photo(), masks, confidence=0.8, sigma_alpha=20)
    for mask, found in zip(masks, refined, strict=True):
        np.testing.assert_array_equal(
            found, refine(photo(), mask, confidence=0.8, sigma_alpha=20.0)
        )


def test_together_no_two_overlap_and_what_was_of_both_goes_to_one():
    masks = coarse()
    masks[0, 25:40, 30:60] = True  # into the rectangle
    refined = refine_masks(photo(), masks, together=True)
    assert not refined.all(0).any()
    assert iou(refined[1], truth()[1]) > 0.95


def test_together_confidence_is_that_of_two_labels():
    """However many objects there are, the photograph has as much of a say as with each alone."""
    y, x = np.mgrid[:160, :240]
    owner = np.zeros(x.shape, int)
    for number, (cy, cx, r) in enumerate([(80, 70, 48), (70, 140, 40), (105, 190, 42)], 1):
        owner[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = number
    colours = np.array([[150, 160, 150], [200, 90, 60], [70, 110, 190], [190, 170, 60]])
    noise = np.random.default_rng(0).normal(0, 8, (160, 240, 3))
    picture = (colours[owner] + 30 * (x / 240 - y / 160)[..., None] + noise).clip(0, 255)
    picture = picture.astype(np.uint8)
    right = np.stack([owner == number for number in (1, 2, 3)])
    shifted = np.stack(
        [np.roll(one, (5, dx), (0, 1)) for one, dx in zip(right, (-8, 8, -8), strict=True)]
    )
    found = refine_masks(picture, shifted, together=True)
    assert min(map(iou, found, right)) > 0.99 > 0.8 > max(map(iou, shifted, right))
    sure = refine_masks(picture, shifted, together=True, confidence=0.99999)
    assert max(map(iou, sure, right)) < 0.85


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m.astype(np.uint8),
        lambda m: m.astype(np.uint8) * 255,
        lambda m: m.astype(np.float32),
        lambda m: torch.from_numpy(m),
        lambda m: torch.from_numpy(m).to(torch.uint8),
        lambda m: torch.from_numpy(m).half(),
    ],
)
def test_dtype_values_and_container_are_kept(convert):
    given = convert(coarse())
    refined = refine_masks(Image.fromarray(photo()), given)
    assert type(refined) is type(given) and refined.dtype == given.dtype
    assert set(np.unique(refined)) == set(np.unique(given))
    np.testing.assert_array_equal(np.asarray(refined) != 0, refine_masks(photo(), coarse()))


def test_probabilities_and_logits_become_booleans():
    soft = np.where(coarse(), 0.8, 0.1).astype(np.float32)
    refined = refine_masks(photo(), soft)
    assert refined.dtype == bool and min(map(iou, refined, truth())) > 0.99
    logits = torch.from_numpy(soft).logit()
    for margin in (None, 40):
        found = refine_masks(photo(), logits, kind="logits", margin=margin)
        np.testing.assert_array_equal(found.numpy(), refined)
    with pytest.raises(ValueError, match="`masks`: with `together` expected masks, got values"):
        refine_masks(photo(), soft, together=True)


def test_empty_masks_and_no_masks():
    masks = np.zeros((3, 60, 80), bool)
    masks[1] = coarse()[0]
    for how in ({}, {"margin": 10}, {"together": True}):
        refined = refine_masks(photo(), masks, **how)
        assert not refined[0].any() and not refined[2].any() and refined[1].any()
        assert refine_masks(photo(), masks[:0], **how).shape == (0, 60, 80)


@pytest.mark.parametrize(
    ("masks", "how", "error", "message"),
    [
        (
            coarse()[0],
            {},
            ValueError,
            "`masks`: expected (N, 60, 80) for a picture of 60 x 80, got",
        ),
        (coarse()[:, 1:], {}, ValueError, "got (2, 59, 80)"),
        ("masks", {}, TypeError, "`masks`: expected a NumPy array"),
        (coarse() * np.arange(80), {}, ValueError, "expected 0 and one other value, got"),
        (coarse(), {"kind": "labels"}, ValueError, "`kind`: expected one of auto, mask"),
        (coarse(), {"margin": -1}, ValueError, "`margin`: expected a number of pixels"),
        (coarse(), {"margin": 5, "together": True}, ValueError, "`margin`: expected a number"),
        (coarse(), {"confidence": 1.5}, ValueError, "confidence"),
        (coarse(), {"sigma": 3}, TypeError, "sigma"),
        (coarse(), {"return_probabilities": True}, TypeError, "`return_probabilities`: is no"),
    ],
)
def test_errors_name_the_argument(masks, how, error, message):
    with pytest.raises(error, match=re.escape(message)):
        refine_masks(photo(), masks, **how)


def test_boxes():
    masks = np.zeros((3, 6, 9), bool)
    masks[0, 2:5, 1:8], masks[1, 5, 8] = True, True
    wanted = [[1, 2, 7, 4], [8, 5, 8, 5], [0, 0, 0, 0]]
    assert boxes_of(masks).tolist() == wanted
    assert boxes_of(torch.from_numpy(masks)).tolist() == wanted
    supervision = pytest.importorskip("supervision")
    assert supervision.mask_to_xyxy(masks).tolist() == wanted


def test_supervision():
    sv = pytest.importorskip("supervision")
    masks = np.concatenate([coarse(), np.zeros((1, 60, 80), bool)])
    detections = sv.Detections(
        xyxy=np.array([[5, 5, 9, 9], [1, 1, 2, 2], [3, 4, 5, 6]], float),
        mask=masks,
        confidence=np.array([0.9, 0.8, 0.2]),
        class_id=np.array([3, 1, 2]),
        data={"class_name": np.array(["disc", "rectangle", "none"])},
    )
    refined = refine_detections(detections, photo(), confidence=0.8)
    assert type(refined) is sv.Detections and len(refined) == 3
    assert min(map(iou, refined.mask[:2], truth())) > 0.99
    assert refined.xyxy.dtype == detections.xyxy.dtype
    np.testing.assert_array_equal(refined.xyxy[:2], sv.mask_to_xyxy(refined.mask[:2]))
    assert refined.xyxy[2].tolist() == [3, 4, 5, 6]  # of an empty mask
    assert refined.class_id.tolist() == [3, 1, 2] and refined.data is detections.data
    assert detections.mask is masks and detections.xyxy[0].tolist() == [5, 5, 9, 9]
    with pytest.raises(ValueError, match="have no masks, only boxes"):
        refine_detections(sv.Detections(xyxy=detections.xyxy), photo())
    with pytest.raises(ValueError, match="`image`: expected the picture"):
        refine_detections(detections)


def test_supervision_with_compact_masks():
    sv = pytest.importorskip("supervision")
    if not hasattr(sv, "CompactMask"):
        pytest.skip("this supervision has no CompactMask")
    compact = sv.CompactMask.from_dense(coarse(), boxes_of(coarse()), image_shape=(60, 80))
    detections = sv.Detections(xyxy=boxes_of(coarse()).astype(float), mask=compact)
    refined = refine_detections(detections, photo())
    assert min(map(iou, np.asarray(refined.mask), truth())) > 0.99


class Part:
    """As Ultralytics' Boxes and Masks are made: of data and the picture's shape."""

    def __init__(self, data, orig_shape):
        self.data, self.orig_shape = data, orig_shape


def results(masks: torch.Tensor) -> SimpleNamespace:
    bgr = np.ascontiguousarray(photo()[..., ::-1])
    boxes = torch.tensor([[5, 5, 9, 9, 0.9, 3], [1, 1, 2, 2, 0.8, 1]])
    parts = {"masks": Part(masks, (60, 80)), "boxes": Part(boxes, (60, 80))}
    return SimpleNamespace(orig_img=bgr, names={1: "rectangle", 3: "disc"}, path="a.jpg", **parts)


def test_ultralytics():
    given = results(torch.from_numpy(coarse()).to(torch.uint8))
    refined = refine_detections(given)
    assert refined is not given and refined.names is given.names
    assert min(map(iou, refined.masks.data, truth())) > 0.99
    assert refined.masks.data.dtype == torch.uint8
    corners = boxes_of(refined.masks.data)
    corners[:, 2:] += 1
    assert refined.boxes.data[:, :4].tolist() == corners.tolist()
    assert refined.boxes.data[:, 4:].tolist() == given.boxes.data[:, 4:].tolist()
    assert given.boxes.data[0, 0] == 5  # as it was
    with pytest.raises(ValueError, match="retina_masks=True"):
        refine_detections(results(torch.zeros(2, 30, 40)))
    given.masks = None
    with pytest.raises(ValueError, match="have no masks"):
        refine_detections(given)
    with pytest.raises(TypeError, match=r"expected supervision\.Detections or Ultralytics'"):
        refine_detections(coarse(), photo())
