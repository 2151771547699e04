"""What the page takes: by content, and by headers before anything is decoded or unpacked."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from deeplab_native.web.limits import Limits, check_labelling, check_photo
from python_tests.web.web_cases import LIMITS, empty_png, photo, photo_file, scores


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP"])
def test_a_photograph_of_any_name(tmp_path, kind):
    path = tmp_path / "notes.txt"
    Image.fromarray(photo()).save(path, kind)
    check_photo(path, LIMITS)
    check_labelling(path, LIMITS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"just a few words of text", "no photograph, but text that begins with 'just a few"),
        (b"", "no photograph, but empty"),
        (b"<html><title>Not found</title></html>", "no photograph, but a web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no photograph"),  # runs a program
        (b"II*\x00" + bytes(100), "no photograph"),
        (b"\x7fELF" + bytes(100), "no photograph, but a program"),
        (b"\x89PNG\r\n\x1a\n" + b"\xff" * 50, "photo.jpg: "),
        (b"\xff\xd8\xff" + bytes(50), "photo.jpg: "),
        (b"RIFF\x00\x00\x00\x00WEBP" + bytes(50), "photo.jpg: "),
    ],
)
def test_no_photograph(tmp_path, content, complaint):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"photo.jpg: ") as caught:
        check_photo(path, LIMITS)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("check", [check_photo, check_labelling])
@pytest.mark.parametrize("size", [(10_000, 10_000), (30_000, 10_000)])
def test_a_picture_of_100_megapixels_is_never_decoded(tmp_path, monkeypatch, check, size):
    path = tmp_path / "photo.jpg"
    path.write_bytes(empty_png(*size))
    assert path.stat().st_size < 200_000
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    with pytest.raises(
        ValueError, match=r"(are 100\.0 megapixels|far too many pixels); expected at"
    ):
        check(path, Limits())


def test_a_line_is_no_photograph(tmp_path):
    with pytest.raises(ValueError, match=r"60 x 3; expected at least 8 each way"):
        check_photo(photo_file(tmp_path, height=3), LIMITS)


def test_arrays(tmp_path):
    np.save(tmp_path / "a.npy", scores())
    np.savez_compressed(tmp_path / "a.npz", scores())
    check_labelling(tmp_path / "a.npy", LIMITS)
    check_labelling(tmp_path / "a.npz", LIMITS)
    small = replace(LIMITS, unpacked=1000)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match=r"0 MB in memory; expected at most 0 MB"):
            check_labelling(tmp_path / name, small)


def test_an_archive_that_unpacks_to_much_more_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "scores.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        head = io.BytesIO()
        about = {"descr": "<f4", "fortran_order": False, "shape": (3, 1 << 15, 1 << 15)}
        np.lib.format.write_array_header_1_0(head, about)
        archive.writestr("scores.npy", head.getvalue() + bytes(1000))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match=r"scores.npz: 12,885 MB in memory; expected at most"):
        check_labelling(path, Limits())


@pytest.mark.parametrize("shape", ["(-1, 2)", "(1e9,)", "(2**70, 5)", "'a'", "__import__('os')"])
def test_headers_that_lie(tmp_path, shape):
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode()
    head += b" " * (118 - len(head)) + b"\n"
    path = tmp_path / "scores.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    with pytest.raises(ValueError, match=r"scores.npy: "):
        check_labelling(path, LIMITS)


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    np.save(tmp_path / "a.npy", np.array([object()], object), allow_pickle=True)
    torch.save(torch.ones(3, 4, 5), tmp_path / "a.pt")
    for name, complaint in (("a.npy", "not a plain array"), ("a.pt", "other things than arrays")):
        with pytest.raises(ValueError, match=complaint):
            check_labelling(tmp_path / name, LIMITS)


@pytest.mark.parametrize("content", [b"PK\x03\x04" + bytes(60), b"", b"some text", b"\x93NUMPY"])
def test_no_labels(tmp_path, content):
    path = tmp_path / "labels.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"labels.png: "):
        check_labelling(path, LIMITS)


def test_any_damage_of_an_archive_is_an_error(tmp_path):
    file = io.BytesIO()
    np.savez_compressed(file, scores())
    whole, random = file.getvalue(), np.random.default_rng(0)
    path = tmp_path / "scores.npz"
    for _ in range(60):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), 8):
            content[place] = random.integers(256)
        path.write_bytes(content[: random.integers(1, len(whole) + 1)])
        try:
            check_labelling(path, LIMITS)
        except ValueError as error:
            assert "scores.npz: " in str(error)


def test_the_copy_that_is_worked_on():
    assert LIMITS.working_size(40, 60) == (40, 60)
    height, width = Limits().working_size(3024, 4032)
    assert height * width == pytest.approx(640_000, rel=0.01)
    assert width / height == pytest.approx(4 / 3, rel=0.01)
    assert Limits().working_size(1, 10**9)[0] == 1
