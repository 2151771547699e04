"""Colours of labels, label PNGs and overlays."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from deeplab_native import viz


def test_voc_palette():
    colours = viz.voc_palette()
    assert colours.shape == (256, 3)
    assert colours.dtype == np.uint8
    # as in the VOC development kit
    assert colours[viz.VOC_CLASSES.index("aeroplane")].tolist() == [128, 0, 0]
    assert colours[viz.VOC_CLASSES.index("person")].tolist() == [192, 128, 128]
    assert colours[viz.VOC_CLASSES.index("tvmonitor")].tolist() == [0, 64, 128]
    assert colours[255].tolist() == [224, 224, 192]
    assert len(np.unique(colours, axis=0)) == 256
    assert np.array_equal(viz.voc_palette(21), colours[:21])


@pytest.mark.parametrize("n", [0, -1, 257])
def test_voc_palette_of_a_wrong_size(n):
    with pytest.raises(ValueError, match=str(n)):
        viz.voc_palette(n)


def test_named_palettes():
    assert np.array_equal(viz.named_palette("voc"), viz.voc_palette())
    assert viz.named_palette("cityscapes")[0].tolist() == [128, 64, 128]
    assert viz.named_palette("okabe-ito")[1].tolist() == [230, 159, 0]
    assert np.array_equal(viz.named_palette("okabe-ito")[8:], viz.voc_palette()[8:])
    assert {len(viz.named_palette(name)) for name in viz.PALETTES} == {256}
    with pytest.raises(ValueError, match="cityscapes"):
        viz.named_palette("nope")


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_label_png_keeps_the_labels(tmp_path, dtype):
    labels = np.arange(256, dtype=dtype).reshape(8, 32)
    viz.save_label_png(tmp_path / "l.png", labels)
    with Image.open(tmp_path / "l.png") as image:
        assert image.mode == "P"
        assert image.size == (32, 8)
        assert np.array_equal(np.array(image), labels)
        assert np.array_equal(np.array(image.convert("RGB")), viz.voc_palette()[labels])


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (np.full((2, 2), 256), "256"),
        (np.full((2, 2), -1), "-1"),
        (np.zeros((2, 2)), "float64"),
        (np.zeros((1, 2, 2), int), r"\(1, 2, 2\)"),
    ],
)
def test_label_png_of_wrong_labels(tmp_path, labels, match):
    with pytest.raises(ValueError, match=match):
        viz.save_label_png(tmp_path / "l.png", labels)
    assert os.listdir(tmp_path) == []


def test_save_png(tmp_path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    viz.save_png(tmp_path / "p.png", pixels)
    with Image.open(tmp_path / "p.png") as image:
        assert np.array_equal(np.array(image), pixels)
    for wrong in (pixels.astype(float), pixels[..., :2], pixels[0, 0]):
        with pytest.raises(ValueError, match="pixels"):
            viz.save_png(tmp_path / "wrong.png", wrong)
    assert os.listdir(tmp_path) == ["p.png"]


def test_overlay():
    image = np.full((4, 6, 3), 100, np.uint8)
    labels = np.zeros((4, 6), int)
    labels[:, 3:] = 1
    out = viz.overlay(image, labels, alpha=0.5)
    assert out.dtype == np.uint8
    assert (out[:, :3] == 100).all()  # the background keeps its colours
    assert (out[:, 3] == 255).all()  # the line
    assert (out[:, 4:] == [114, 50, 50]).all()
    assert (image == 100).all()


def test_overlay_of_wrong_arguments():
    image, labels = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), int)
    with pytest.raises(ValueError, match="size"):
        viz.overlay(image, labels.T)
    with pytest.raises(ValueError, match="alpha"):
        viz.overlay(image, labels, alpha=1.5)
    with pytest.raises(ValueError, match="image"):
        viz.overlay(image.astype(float), labels)
    with pytest.raises(ValueError, match="0 to 1"):
        viz.overlay(image, labels + 2, viz.voc_palette(2))
    with pytest.raises(ValueError, match="palette"):
        viz.overlay(image, labels, np.zeros((2, 4), np.uint8))
