"""Files that would unpack to much more than they are: an error before the memory is taken."""

from __future__ import annotations

import os
import tarfile
import time
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from deeplab_native import _memory
from deeplab_native._images import by_stem, image_size, read_index_png, read_picture
from deeplab_native.jobs._nifti import read_volume
from deeplab_native.jobs._score_files import read_array
from python_tests.trust.hostile_files import (
    MEGABYTE,
    array_header,
    chunk,
    gif,
    member,
    nifti,
    npz,
    peak_of,
    png,
    postscript,
    shard,
    tiff,
    torch_of_one_number,
    zeros,
)

MOST = 40  # MB that any of these errors may take; each file stands for 80 MB or more
BOMB = zeros(200)
LARGE = (3, 1 << 15, 1 << 15)  # 12.9 GB of float32


def refused(work, path, complaint, kind=ValueError):
    """It raises an error that names the file, and takes next to no memory."""
    found, megabytes = peak_of(work)
    assert isinstance(found, kind), found
    assert str(path) in str(found) and complaint in str(found)
    assert megabytes < MOST


@pytest.mark.parametrize("read", [read_picture, read_index_png, image_size])
@pytest.mark.parametrize(
    ("name", "front"), [(b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")]
)
def test_texts_and_profiles_of_a_png(tmp_path, read, name, front):
    path = tmp_path / "a.png"
    path.write_bytes(png(chunk(name, front + BOMB)))
    refused(lambda: read(path), path, "too large")


@pytest.mark.parametrize(
    "content",
    [
        png(rows=b"", size=(60_000, 60_000)),
        gif(1, canvas=(0xFFFF, 0xFFFF)),
        gif(1, frame=(0xFFFF, 0xFFFF)),
    ],
)
def test_pixels(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    refused(lambda: read_picture(path), path, "too many pixels")


def test_pixels_that_pillow_allows_need_memory_that_is_there(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(png(rows=b"", size=(10_000, 10_000)))
    monkeypatch.setattr(_memory, "available_memory", lambda: 1 << 30)
    with pytest.warns(Image.DecompressionBombWarning):
        refused(lambda: read_picture(path), path, "needs at least 1.2 GB", MemoryError)


@pytest.mark.parametrize("content", [gif(200_000), tiff(4_000)])
def test_frames_are_not_counted(tmp_path, content):
    """Pillow would go through all of them, with TIFF in the square of their number."""
    path = tmp_path / "a.picture"
    path.write_bytes(content)
    start = time.process_time()
    found, megabytes = peak_of(lambda: read_picture(path))
    assert time.process_time() - start < 0.1
    assert found.notes == ("several frames, of which the first is read",) and megabytes < MOST


def test_no_other_program_draws_a_picture(tmp_path, monkeypatch):
    """Pillow gives PostScript to Ghostscript, whatever the file's name is."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_: pytest.fail("it was run"))
    for name in ("a.jpg", "a.eps"):
        path = tmp_path / name
        path.write_bytes(postscript())
        refused(lambda path=path: read_picture(path), path, "not a picture")
    with pytest.raises(ValueError, match="no eps here"):
        by_stem(tmp_path, {".eps"} & {*_suffixes()}, "eps here")


def _suffixes():
    from deeplab_native._images import picture_suffixes

    return picture_suffixes()


@pytest.mark.parametrize("read", [read_picture, read_index_png, image_size, read_array])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    path = tmp_path / "a.png"
    os.mkfifo(path)
    refused(lambda: read(path), path, "no regular file")


@pytest.mark.parametrize("name", ["scores.npy", "scores"])
def test_score_archives(tmp_path, name, monkeypatch):
    path = npz(tmp_path / "a.npz", LARGE, name)
    refused(lambda: read_array(path), path, "damaged or cut off")
    path = npz(tmp_path / "b.npz", (20, 1 << 10, 1 << 10), name, megabytes=80)
    monkeypatch.setattr(_memory, "MOST_UNPACKED", 50_000_000)
    refused(lambda: read_array(path), path, "0.1 GB in memory; expected at most 0.1 GB")


def test_an_array_that_says_to_be_longer_than_its_file(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(array_header(LARGE) + bytes(1000))
    refused(lambda: read_array(path), path, "damaged or cut off")


def test_a_tensor_of_one_number(tmp_path):
    path = torch_of_one_number(tmp_path / "a.pt", LARGE)
    assert path.stat().st_size < 3000
    refused(lambda: read_array(path), path, "one value for many")


def test_an_honest_file_is_read(tmp_path, monkeypatch):
    """Right at the limit, of each kind."""
    values = np.ones((2, 8, 8), np.float32)
    monkeypatch.setattr(_memory, "MOST_UNPACKED", values.nbytes + 128)
    np.save(tmp_path / "a.npy", values)
    np.savez_compressed(tmp_path / "a.npz", values)
    for name in ("a.npy", "a.npz"):
        assert read_array(tmp_path / name).shape == values.shape


@pytest.mark.skipif(find_spec("nibabel") is None, reason="no nibabel")
def test_volumes(tmp_path, monkeypatch):
    path = nifti(tmp_path / "a.nii.gz", (2000, 2000, 2000))
    refused(lambda: read_volume(path), path, "16.0 GB in memory; expected at most 4.3 GB")
    path = nifti(tmp_path / "b.nii.gz", (10, 10, 10), between=100 << 20, megabytes=101)
    refused(lambda: read_volume(path), path, "no NIfTI file, damaged or cut off")
    monkeypatch.setattr(_memory, "available_memory", lambda: 1 << 30)
    path = nifti(tmp_path / "c.nii", (2000, 2000, 2000))
    refused(lambda: read_volume(path), path, "16,000,000,000 bytes of voxels by its header")
    os.truncate(path, 352 + 16_000_000_000)  # with a hole, on which no disk is spent
    refused(lambda: read_volume(path), path, "needs at least 16.0 GB", MemoryError)
    path = nifti(tmp_path / "d.nii.gz", (64, 64, 64), megabytes=1)
    assert read_volume(path).values.shape == (64, 64, 64)


@pytest.fixture
def samples_of():
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'deeplab_native[ray]'")
    from deeplab_native.jobs.ray import _samples
    from deeplab_native.jobs.ray._inputs import Unit

    def read(path):
        unit = Unit("a", "tar", str(path))
        return list(_samples.samples(unit, _samples.Columns(), refine=False))

    return read


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_long_names_in_tar_shards(tmp_path, samples_of, kind, packed):
    content = bytes(80 * MEGABYTE)
    path = shard(tmp_path / f"a.tar{packed}", (member("x", len(content), kind), content))
    del content
    found, megabytes = peak_of(lambda: samples_of(path))
    assert "a header of 83886080 bytes" in str(found) and megabytes < MOST


def test_members_of_tar_shards(tmp_path, samples_of, monkeypatch):
    monkeypatch.setattr(_memory, "MOST_UNPACKED", 50_000_000)
    content = bytes(80 * MEGABYTE)
    ends = (member("b.png", 9), b"a picture")
    path = shard(tmp_path / "a.tar.gz", (member("a.png", len(content)), content), ends)
    del content
    (large, other), megabytes = peak_of(lambda: samples_of(path))
    assert "a.png: 0.1 GB in memory; expected at most 0.1 GB" in large.error
    assert other.image == b"a picture" and megabytes < MOST


def test_sparse_members_of_tar_shards(tmp_path, samples_of):
    """A hole of 2 GB is 512 bytes of a shard."""
    info = member("a.png", 0, tarfile.GNUTYPE_SPARSE)
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[386:410] = b"%011o\0%011o\0" % ((1 << 31) - 1, 0)
    head[483:495] = b"%011o\0" % ((1 << 31) - 1)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (tmp_path / "a.tar").write_bytes(bytes(head) + bytes(1024))
    found, megabytes = peak_of(lambda: samples_of(tmp_path / "a.tar"))
    assert "a sparse member" in found[0].error and megabytes < MOST
