"""What the system refuses is one line with the file, and with what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from deeplab_native import _images
from deeplab_native._errors import one_line


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "make room on the disk, or write elsewhere"),
        (errno.EROFS, "write elsewhere"),
        (errno.EMFILE, "raise the limit of `ulimit -n`, or use fewer workers"),
        (errno.EFBIG, "raise the limit of `ulimit -f`, or write elsewhere"),
        (errno.EIO, "check the disk"),
        (errno.ENAMETOOLONG, "give a shorter name"),
    ],
)
def test_the_systems_errors_say_what_to_do(number, advice):
    error = OSError(number, os.strerror(number), "a\n.png")
    assert one_line(error) == f"a .png: {os.strerror(number)} ({advice})"


def test_errors_that_say_enough_are_as_they_are():
    assert one_line(OSError(errno.ENOENT, "No such file", "a.png")) == "a.png: No such file"
    assert one_line(MemoryError("Q: needs at least 9 GB")) == "Q: needs at least 9 GB"
    assert one_line(RuntimeError("no memory")) == "no memory"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError("out of memory in a native kernel"), "out of memory in a native kernel"),
        (MemoryError(), "stopped"),
        (MemoryError("Unable to allocate 9 GiB for an array"), "Unable to allocate 9 GiB"),
        (
            RuntimeError("[enforce fail at alloc.cpp:1] . DefaultCPUAllocator: can't allocate 9"),
            "out of memory: can't allocate 9 (use fewer workers",
        ),
    ],
)
def test_out_of_memory(error, said):
    line = one_line(error)
    assert line.startswith("out of memory") and said in line
    assert line.endswith("(use fewer workers, smaller images, or a scale below 1)")


READERS = {"photograph": _images.read_image, "labels": _images.read_index_png}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOENT, errno.EIO, errno.ENOMEM])
def test_a_picture_that_cannot_be_opened_is_not_called_damaged(read, number, tmp_path, monkeypatch):
    """Too many open files, a file that went away meanwhile: to save it again would not help."""
    path = tmp_path / "a.png"
    Image.new("L", (3, 2)).save(path)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(OSError, match=r"a\.png") as caught:
        read(path)
    assert caught.value.errno == number


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_picture_that_is_cut_off_is_called_damaged(read, part, tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((30, 20), 50).save(path)
    content = path.read_bytes()
    Path(path).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=r"a\.png: damaged or cut off: .*\(save it again\)"):
        read(path)
