"""Pictures and score files as users have them: what is read, and how the rest is refused."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native._images import read_image, read_picture
from deeplab_native.jobs._score_files import read_array

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


def test_sixteen_bits_that_hold_twelve(tmp_path, photo):
    """Their upper 8 bits are black: a CRF would see no colour."""
    Image.fromarray(photo[..., 0].astype(np.uint16) * 16).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match=r"x.png: 16 bits a pixel, but no value above 4080"):
        read_image(tmp_path / "x.png")


def test_what_pixels_do_not_show_is_noted(tmp_path, photo):
    picture = Image.fromarray(photo)
    clear = picture.copy()
    clear.putalpha(Image.fromarray(photo[..., 0]))
    opaque = picture.copy()
    opaque.putalpha(255)
    for name, image, options, note in (
        ("a.png", Image.fromarray(photo[..., 0].astype(np.uint16) * 257), {}, "16 bits a pixel"),
        ("b.png", clear, {}, "transparency"),
        ("c.png", opaque, {}, None),
        (
            "d.gif",
            picture,
            {"save_all": True, "append_images": [Image.fromarray(255 - photo)]},
            "several",
        ),
        ("e.jpg", picture.convert("CMYK"), {}, "printing colours"),
        ("f.png", picture.convert("L"), {}, None),
        ("g.mpo", picture, {"save_all": True, "append_images": [picture]}, None),  # a preview
    ):
        image.save(tmp_path / name, **options)
        notes = read_picture(tmp_path / name).notes
        assert len(notes) == (note is not None), name
        assert note is None or note in notes[0]


def test_floating_point_pictures_are_refused(tmp_path, photo):
    Image.fromarray(photo[..., 0].astype(np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(ValueError, match=r"x.tiff: pictures of mode F"):
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
            read_array(Path(name))
    assert sorted(os.listdir()) == ["evil.npy", "evil.npz"]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_npy_and_npz(tmp_path, logits, dtype):
    np.save(tmp_path / "a.npy", logits.astype(dtype))
    np.savez(tmp_path / "a.npz", a=logits.astype(dtype))
    np.savez_compressed(tmp_path / "two.npz", a=logits.astype(dtype), b=0 * logits)
    for name, key in (("a.npy", None), ("a.npz", None), ("a.npz", "a"), ("two.npz", "a")):
        scores = read_array(tmp_path / name, key)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, logits.astype(dtype).astype(np.float32))
    for name, key, match in (
        ("two.npz", None, "a, b"),
        ("two.npz", "c", "'c'"),
        ("a.npy", "a", "`key`"),
    ):
        with pytest.raises(ValueError, match=match):
            read_array(tmp_path / name, key)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
def test_cut_off_scores(tmp_path, logits, share):
    for save in (np.save, np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, logits)
        data = buffer.getvalue()
        path = tmp_path / "cut"
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ValueError, match=r"cut: (damaged|not a NumPy file)"):
            read_array(path)


def test_changed_bytes_of_an_archive(tmp_path, logits):
    np.savez_compressed(tmp_path / "a.npz", logits)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        read_array(tmp_path / "a.npz")


def test_tensors_of_torch(tmp_path, logits):
    tensor = torch.from_numpy(logits)
    for name, content, key, expected in (
        ("a.pt", tensor, None, logits),
        ("a.pth", {"scores": tensor[None].bfloat16()}, None, tensor[None].bfloat16().float()),
        ("b.pt", {"a": tensor, "b": 2 * tensor, "epoch": 3}, "b", 2 * logits),
        ("c.pt", torch.nn.Parameter(tensor), None, logits),
        ("d.pt", tensor.argmax(0), None, logits.argmax(0)),
    ):
        torch.save(content, tmp_path / name)
        assert np.array_equal(read_array(tmp_path / name, key), expected)
    torch.save(tensor, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert np.array_equal(read_array(tmp_path / "old.pt"), logits)
    for name, content, key, message in (
        ("e.pt", {"a": tensor, "b": tensor}, None, "2 arrays .choose by `key`: a, b"),
        ("f.pt", {"a": tensor}, "c", "no array 'c'"),
        ("g.pt", tensor, "c", "`key` is for several arrays"),
        ("h.pt", [tensor], None, "expected a tensor or a dict of tensors, got list"),
        ("i.pt", {"a": logits}, None, "could run any code: UnpicklingError"),
        ("j.pt", tensor.to_sparse(), None, "without plain values"),
        ("k.pt", tensor.to(torch.complex64), None, "expected floating point scores .*complex64"),
    ):
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=f"{name}: .*{message}"):
            read_array(tmp_path / name, key)


def test_no_torch_file_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Evil(), "evil.pt")
    Path("evil.npy").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "evil.npy"):
        with pytest.raises(ValueError, match="could run any code"):
            read_array(Path(name))
    assert sorted(os.listdir()) == ["evil.npy", "evil.pt"]


@pytest.mark.parametrize(
    ("begin", "what"),
    [
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"MATLAB 5.0", "MATLAB"),
        (b"<html>", "HTML"),
        (b"{", "JSON"),
    ],
)
def test_other_files_are_named(tmp_path, begin, what):
    (tmp_path / "x.npy").write_bytes(begin + bytes(99))
    with pytest.raises(ValueError, match=f"x.npy: not a NumPy file.*{what}"):
        read_array(tmp_path / "x.npy")


def test_a_picture_is_no_array(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "x.npy", format="PNG")
    assert read_array(tmp_path / "x.npy") is None
    with pytest.raises(ValueError, match="`key` is for"):
        read_array(tmp_path / "x.npy", "a")
