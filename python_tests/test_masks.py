"""Pictures of labels: what each is taken for, and what is asked about."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageOps

from deeplab_native import viz
from deeplab_native._images import read_picture
from deeplab_native._masks import labels_of, read_mask

VOC = {"voc": viz.voc_palette().astype(np.int64)}
SHAPE = (6, 9)


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)


def saved(path, pixels, mode=None, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def palette_png(path, values, palette):
    image = Image.fromarray(values)
    image.putpalette(np.asarray(palette, np.uint8).tobytes())
    return saved(path, image)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff", "pgm"])
def test_binary_masks_of_0_and_255(tmp_path, labels, suffix):
    mask = (labels > 0).astype(np.uint8)
    found = read_mask(saved(tmp_path / f"m.{suffix}", 255 * mask), VOC)
    assert np.array_equal(found.labels, mask)
    colours = "black and white" if suffix == "gif" else "0 and 255"
    assert (found.what, found.notes) == (f"binary mask of {colours}", ())


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "LA", "P", "I;16"])
def test_binary_masks_of_any_mode(tmp_path, labels, mode):
    mask = labels > 0
    if mode == "I;16":
        path = saved(tmp_path / "m.png", 65535 * mask.astype(np.uint16))
    else:
        path = saved(tmp_path / "m.png", 255 * mask.astype(np.uint8), mode)
    found = read_mask(path, VOC)
    assert np.array_equal(found.labels, mask)
    assert found.what.startswith("binary mask of ")


def test_label_pictures(tmp_path, labels):
    labels[0, :3] = 255
    ramp = np.repeat(np.arange(256)[:, None], 3, 1)
    for path, what in (
        (saved(tmp_path / "grey.png", labels), "grey label picture"),
        (palette_png(tmp_path / "ramp.png", labels, ramp), "grey label picture"),
        (palette_png(tmp_path / "voc.png", labels, viz.voc_palette()), "palette label picture"),
        (saved(tmp_path / "wide.png", labels.astype(np.uint16)), "grey label picture"),
        (saved(tmp_path / "rgb.png", labels, "RGB"), "grey label picture"),
        (
            saved(tmp_path / "colours.png", viz.voc_palette()[labels]),
            "picture in the colours of voc",
        ),
    ):
        found = read_mask(path, VOC)
        assert np.array_equal(found.labels, labels)
        assert found.what == what
    one = read_mask(saved(tmp_path / "one.png", labels // 128), VOC)
    assert one.what == "binary mask of 0 and 1"


def test_void_alone_beside_the_background_is_no_foreground(tmp_path, labels):
    """VOC's 255 is not white, a binary mask's is."""
    values = np.where(labels > 0, 255, 0).astype(np.uint8)
    path = palette_png(tmp_path / "voc.png", values, viz.voc_palette())
    assert np.array_equal(read_mask(path, VOC).labels, values)
    grey = saved(tmp_path / "grey.png", values)
    assert np.array_equal(read_mask(grey, VOC).labels, values // 255)
    assert np.array_equal(read_mask(grey, VOC, "labels").labels, values)


def test_white_is_the_foreground_whatever_its_index(tmp_path, labels):
    mask = (labels > 0).astype(np.uint8)
    path = palette_png(tmp_path / "m.png", mask, [[255] * 3, [0] * 3])
    assert np.array_equal(read_mask(path, VOC).labels, 1 - mask)
    assert np.array_equal(read_mask(path, VOC, "labels").labels, mask)


def test_shades_are_asked_about(tmp_path):
    shades = np.linspace(0, 255, 54).reshape(SHAPE).round().astype(np.uint8)
    path = saved(tmp_path / "soft.png", shades)
    with pytest.raises(ValueError, match=r"soft.png: 54 values .* `kind` labels, or probabilities"):
        read_mask(path, VOC)
    assert np.array_equal(read_mask(path, VOC, "labels").labels, shades)
    for kind in ("probabilities", "sigmoid"):
        found = read_mask(path, VOC, kind)
        assert np.array_equal(found.values, shades.astype(np.float32) / 255)
    wide = saved(tmp_path / "wide.png", shades.astype(np.uint16) * 257)
    assert np.array_equal(read_mask(wide, VOC, "sigmoid").values, shades.astype(np.float32) / 255)
    lossy = saved(tmp_path / "soft.jpg", shades, quality=100)
    with pytest.raises(ValueError, match=r"a mask in a JPEG file, which changes labels .*PNG"):
        read_mask(lossy, VOC)
    share = read_mask(lossy, VOC, "probabilities").values
    assert np.abs(share - shades.astype(np.float32) / 255).max() < 0.02


def test_what_is_no_mask(tmp_path, labels):
    random = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    colours = {"voc": np.full((256, 3), -1)}
    colours["voc"][:2] = [[0, 0, 0], [128, 0, 0]]
    other = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)[labels]
    alpha = np.dstack([random, 255 - labels])
    for name, pixels, known, message in (
        ("a.png", random, VOC, r"a.png: a picture of 54 colours, not all of them of voc .*palette"),
        ("b.png", other, colours, "b.png: a picture of 3 colours"),
        ("c.png", alpha, VOC, "c.png: transparency in a mask"),
        ("d.png", np.full(SHAPE, 255, np.uint8), VOC, "d.png: all values are 255: .*`kind` labels"),
        ("e.png", labels.astype(np.uint16) + 300, VOC, r"e.png: labels: expected 0 to 254.*300"),
        ("f.tiff", labels.astype(np.float32), VOC, "f.tiff: a picture of mode F is no mask"),
    ):
        with pytest.raises(ValueError, match=message):
            read_mask(saved(tmp_path / name, pixels), known)
    with pytest.raises(FileNotFoundError, match=r"none.png: no such picture"):
        read_mask(tmp_path / "none.png", VOC)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_and_photos_are_turned_alike(tmp_path, labels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "m.png", labels, exif=exif)
    with Image.open(path) as image:
        upright = np.array(ImageOps.exif_transpose(image))
    found, photo = read_mask(path, VOC), read_picture(path)
    assert np.array_equal(found.labels, upright)
    assert np.array_equal(photo.pixels[..., 0], upright)
    assert found.notes == photo.notes
    assert len(photo.notes) == (orientation != 1)
    stored = read_mask(path, VOC, exif=False), read_picture(path, exif=False)
    assert np.array_equal(stored[0].labels, labels)
    assert np.array_equal(stored[1].pixels[..., 0], labels)
    if orientation != 1:
        assert "turned upright by its EXIF orientation (`exif=False`" in photo.notes[0]
        assert "not turned upright" in stored[1].notes[0]


def test_arrays(labels):
    for values, expected, what in (
        (labels.astype(np.int64) - 1, np.where(labels == 0, 255, labels - 1), "binary mask of 0"),
        (labels.astype(np.int32) * 7, labels * 7, "label map"),
        (labels > 0, labels > 0, "binary mask"),
        (
            np.where(labels == 2, -100, labels.astype(np.int64)),
            np.where(labels == 2, 255, labels),
            "",
        ),
    ):
        found, words = labels_of(values)
        assert np.array_equal(found, expected.astype(np.uint8))
        assert found.dtype == np.uint8
        assert what in words or what == "binary mask of 0"
    for wrong in (-2, 256):
        with pytest.raises(ValueError, match=f"255, -1 or -100 for unsure, got {wrong}"):
            labels_of(np.where(labels == 2, wrong, labels.astype(np.int64)))
