"""Files that are not what their name says: failed downloads, archives, text."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from deeplab_native import weights
from deeplab_native._file_kinds import what_else


def written(write, *arguments):
    file = io.BytesIO()
    write(file, *arguments)
    return file.getvalue()


def saved():
    return written(lambda file: torch.save({"w": torch.ones(3)}, file))


def zipped(names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, saved())
    return file.getvalue()


def tarred(names):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))
    return file.getvalue()


PAGE = b"<!DOCTYPE html>\n<html><head><title>Quota\n exceeded</title>"
KINDS = {
    "page": (
        PAGE,
        "a web page (HTML), titled 'Quota exceeded', in place of the file: its download",
    ),
    "page with comments": (
        b"\xef\xbb\xbf<!-- a --> <!-- b -->\n<HTML lang='en'>",
        "a web page (HTM",
    ),
    "Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a Git LFS pointer that stands for the file, not the file of the 12,345 bytes (run git lfs",
    ),
    "JSON": (
        b'{"error": "not found"}',
        'JSON that begins with \'{"error": "not found"}\', as serv',
    ),
    "long JSON": (json.dumps({"a": "x" * 5000}).encode(), 'JSON that begins with \'{"a": "xx'),
    "XML": (
        b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>',
        "XML that begins with '<?xml",
    ),
    "nothing": (b"", "empty, or truncated: a download that failed, or a full disk (get it again)"),
    "gzip": (gzip.compress(saved()), "packed with gzip (unpack it first: gunzip < net.pth > FILE)"),
    "bzip2": (
        bz2.compress(saved()),
        "packed with bzip2 (unpack it first: bunzip2 < net.pth > FILE)",
    ),
    "xz": (lzma.compress(saved()), "packed with xz (unpack it first: unxz < net.pth > FILE)"),
    "zip": (
        zipped(["a.pth", "b.pth", "c", "d"]),
        "a zip archive with 'a.pth' and 'b.pth' and 2 more (unpack it first, and give the file in",
    ),
    "tar": (tarred(["nets/a.pth"]), "a tar archive with 'nets/a.pth' (unpack it first, and give"),
    "npz": (written(lambda file: np.savez(file, a=np.ones(3))), "a NumPy archive (.npz)"),
    "npy": (written(np.save, np.ones(3)), "a NumPy file"),
    "prototxt": (
        b'name: "VGG"\ninput: "data"\nlayer {\n',
        "the definition of a net as text (proto",
    ),
    "old prototxt": (
        b"# VGG\n\nlayers {\n",
        "the definition of a net as text (prototxt), not its w",
    ),
    "words": ("404: Größe unbekannt".encode(), "text that begins with '404: Größe unbekannt'"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG picture"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_it_is(tmp_path, name):
    content, words = KINDS[name]
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    assert what_else(path).startswith(words)
    for suffix in (".pth", ".caffemodel", ".safetensors"):  # by its content, whatever its name
        file = path.with_suffix(suffix)
        path.rename(file)
        for read in (weights.recognise, weights.read_metadata):
            with pytest.raises(ValueError) as error:
                read(file)
            assert str(error.value).startswith(f"{file} is {words}".replace("net.pth", file.name))
        path = file


@pytest.mark.parametrize(
    "content",
    [
        saved(),
        written(lambda f: torch.save({}, f, _use_new_zipfile_serialization=False)),
        tarred(["sys_info", "pickle", "storages", "tensors"]),
        b"\n\x03net" + bytes(100),
        bytes(range(9, 200)),
        b"PK\x03\x04 a zip that is none",
        b"<!--" * 1000,
    ],
)
def test_what_others_read_or_nobody_knows(tmp_path, content):
    path = tmp_path / "net"
    path.write_bytes(content)
    known = what_else(path)
    assert known is None or known.startswith("text that begins with")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # of newer versions
def test_programs_of_torch(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"net.pt is no .*a program of torch.jit.save: load it"):
        weights.recognise(tmp_path / "net.pt")
