"""Pictures and score files as users have them: what is read, and how the rest is refused."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_native._images import read_image
from deeplab_native.jobs import scores as inputs

HEIGHT, WIDTH, LABELS = 20, 30, 4


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def logits() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(LABELS, HEIGHT, WIDTH)).astype(np.float32)


# ---- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK"])
def test_pictures_of_any_mode(tmp_path, photo, mode):
    grey = np.repeat(photo[..., :1] // 128 * 255, 3, axis=2)  # black or white, in every mode
    path = tmp_path / ("x.tiff" if mode == "CMYK" else "x.png")
    Image.fromarray(grey).convert(mode).save(path)
    assert np.array_equal(read_image(path), grey)


def test_palette_with_transparency(tmp_path, photo):
    Image.fromarray(photo).convert("P").save(tmp_path / "x.png", transparency=bytes(range(256)))
    assert read_image(tmp_path / "x.png").shape == photo.shape


def test_sixteen_bits(tmp_path, photo):
    Image.fromarray(photo[..., 0].astype(np.uint16) * 257).save(tmp_path / "x.png")
    assert np.array_equal(read_image(tmp_path / "x.png"), np.repeat(photo[..., :1], 3, 2))


def test_floating_point_pictures_are_refused(tmp_path, photo):
    Image.fromarray(photo[..., 0].astype(np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(ValueError, match="mode F"):
        read_image(tmp_path / "x.tiff")


def test_too_many_pixels(tmp_path, photo, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(photo).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="too many pixels"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_cut_off_pictures(tmp_path, photo, suffix):
    Image.fromarray(photo).save(tmp_path / f"whole.{suffix}")
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for share in (0.0, 0.1, 0.5, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        try:
            pixels = read_image(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert pixels.shape == photo.shape  # what was cut off held no pixels


# ---- score files --------------------------------------------------------------------------------


class Evil:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("trace"),))


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evil = np.array([Evil()], dtype=object)
    np.save("evil.npy", evil)
    np.savez("evil.npz", x=evil)
    for name in ("evil.npy", "evil.npz"):
        with pytest.raises(ValueError, match="pickled"):
            inputs.read_scores(Path(name))
    assert sorted(os.listdir()) == ["evil.npy", "evil.npz"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npy_and_npz(tmp_path, logits, dtype):
    np.save(tmp_path / "a.npy", logits.astype(dtype))
    np.savez(tmp_path / "a.npz", a=logits.astype(dtype))
    np.savez_compressed(tmp_path / "two.npz", a=logits.astype(dtype), b=0 * logits)
    for name, key in (("a.npy", None), ("a.npz", None), ("a.npz", "a"), ("two.npz", "a")):
        scores = inputs.read_scores(tmp_path / name, key)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, logits.astype(dtype).astype(np.float32))
    for name, key, match in (
        ("two.npz", None, "a, b"),
        ("two.npz", "c", "'c'"),
        ("a.npy", "a", "`key`"),
    ):
        with pytest.raises(ValueError, match=match):
            inputs.read_scores(tmp_path / name, key)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_cut_off_scores(tmp_path, logits, share):
    for save in (np.save, np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, logits)
        data = buffer.getvalue()
        path = tmp_path / "cut"
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=r"cut: (damaged|not a NumPy file)"):
            inputs.read_scores(path)


def test_changed_bytes_of_an_archive(tmp_path, logits):
    np.savez_compressed(tmp_path / "a.npz", logits)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        inputs.read_scores(tmp_path / "a.npz")


# ---- layout and kind ----------------------------------------------------------------------------


def test_layout(logits):
    size = (HEIGHT, WIDTH)
    for scores in (logits, logits[None], np.moveaxis(logits, 0, -1)):
        assert np.array_equal(inputs.to_chw(scores, size, "auto", False), logits)


def test_kind(logits):
    e = np.exp(logits)
    probabilities = e / e.sum(0)
    assert inputs.kind_of(logits, "auto") == "logits"
    assert inputs.kind_of(probabilities, "auto") == "probabilities"
    assert inputs.kind_of(probabilities.astype(np.float16), "auto") == "probabilities"
    assert inputs.kind_of(probabilities, "logits") == "logits"
    with pytest.raises(ValueError, match="`kind` logits"):
        inputs.kind_of(probabilities * 0.9, "probabilities")
