"""What image processors give, refined."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native import refine
from deeplab_native.interop import refine_segmentation
from python_tests.interop.scene import coarse, iou, photo, truth


def label_map(masks: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(masks[0] + 2 * masks[1].astype(int))


def outputs() -> SimpleNamespace:
    """Of two pictures: scores (2, 3, 15, 20)."""
    masks = torch.from_numpy(coarse()).float()
    scores = torch.cat([1 - masks.sum(0, keepdim=True), masks])
    small = torch.nn.functional.interpolate(scores[None], size=(15, 20), mode="area") * 3
    return SimpleNamespace(logits=torch.cat([small, small.flip(-1)]))


PHOTOS = [photo(), np.ascontiguousarray(photo()[:, ::-1])]


def test_label_maps():
    given = label_map(coarse())
    labels, mirrored = refine_segmentation(PHOTOS, [given, given.flip(-1).int()])
    assert labels.dtype == torch.int64 and mirrored.dtype == torch.int32
    np.testing.assert_array_equal(labels, refine(photo(), given, kind="labels"))
    for i in (1, 2):
        assert iou(labels == i, truth()[i - 1]) > 0.99
        assert iou(mirrored.flip(-1) == i, truth()[i - 1]) > 0.99


def test_outputs_of_a_net():
    images = [Image.fromarray(PHOTOS[0]), torch.from_numpy(PHOTOS[1]).permute(2, 0, 1)]
    given = outputs()
    found = refine_segmentation(images, given)
    enlarged = torch.nn.functional.interpolate(given.logits, size=(60, 80), mode="bilinear")
    for labels, picture, scores in zip(found, images, enlarged, strict=True):
        assert labels.shape == (60, 80) and labels.dtype == torch.int64
        np.testing.assert_array_equal(labels, refine(picture, scores, kind="logits"))


def test_with_a_processor_of_transformers():
    transformers = pytest.importorskip("transformers")
    processor = transformers.models.segformer.image_processing_pil_segformer
    make = processor.SegformerImageProcessorPil().post_process_semantic_segmentation
    maps = make(outputs(), target_sizes=[(60, 80)] * 2)
    assert [type(m) for m in refine_segmentation(PHOTOS, maps)] == [torch.Tensor] * 2
    scored = make(outputs(), target_sizes=[(60, 80)] * 2, return_segmentation_scores=True)
    refined = refine_segmentation(PHOTOS, scored)
    assert type(refined[0]) is type(scored[0])
    for one, before, labels in zip(
        refined, scored, refine_segmentation(PHOTOS, outputs()), strict=True
    ):
        np.testing.assert_array_equal(one["segmentation"], labels)
        assert one["segmentation_scores"] is before["segmentation_scores"]
        assert one["segmentation"] is not before["segmentation"]


def test_segments():
    ids = label_map(coarse()).int() - 1  # -1: of no segment
    ids[:2, :2] = 7
    info = [{"id": 0, "label_id": 3, "score": 0.9}, {"id": 1, "label_id": 4}, {"id": 7}]
    given = {"segmentation": ids, "segments_info": info}
    (refined,) = refine_segmentation(PHOTOS[:1], [given])
    assert refined["segmentation"].dtype == torch.int32
    assert [s["id"] for s in refined["segments_info"]] == [0, 1]  # the corner is gone
    assert iou(refined["segmentation"] == 0, truth()[0]) > 0.99
    assert set(refined["segmentation"].unique().tolist()) == {-1, 0, 1}
    assert given["segments_info"] == info and (ids[:2, :2] == 7).all()


@pytest.mark.parametrize(
    ("images", "given", "error", "message"),
    [
        (3, [], TypeError, "`images`: expected a list of pictures, got int"),
        (PHOTOS, 3, TypeError, "`segmentations`: expected outputs with `logits`, or a list"),
        (PHOTOS, [], ValueError, "`segmentations`: 0 for 2 pictures"),
        (PHOTOS, SimpleNamespace(logits=torch.zeros(1, 3, 4, 5)), ValueError, "got (1, 3, 4, 5)"),
        (PHOTOS[:1], [torch.zeros(6, 8)], ValueError, "`segmentations`[0]: expected (60, 80)"),
        (PHOTOS[:1], [{"a": 1}], ValueError, "expected an entry 'segmentation', got ['a']"),
        (PHOTOS[:1], ["map"], TypeError, "`segmentations`[0]: expected a label map, got str"),
    ],
)
def test_errors(images, given, error, message):
    with pytest.raises(error, match=re.escape(message)):
        refine_segmentation(images, given)
