"""What fuzzing has collected is read again: no crash, no hang, no more memory than promised."""

import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from trust import fuzz_readers
from trust.fuzzing import containers, mutators
from trust.fuzzing.corpus import read_corpus
from trust.fuzzing.target import FindingError, Scratch, check_memory, prepared, survives
from trust.fuzzing.targets import TARGETS

NEEDS = {"config": "yaml", "volume": "nibabel", "shard": "fsspec"}
MEGABYTE = 1 << 20


@pytest.fixture
def reader(tmp_path):
    """A target and its reader, by name."""

    def get(name):
        if name in NEEDS:
            pytest.importorskip(NEEDS[name])
        if name == "config":
            pytest.importorskip("pydantic")
        return TARGETS[name], prepared(TARGETS[name], Scratch(tmp_path))

    return get


@pytest.fixture(autouse=True)
def pixels(monkeypatch):
    """Targets set Pillow's limit."""
    from PIL import Image

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.mark.filterwarnings("ignore")  # of odd files, by NumPy, Pillow and nibabel
@pytest.mark.parametrize("name", TARGETS)
def test_corpus(name, reader):
    target, read = reader(name)
    corpus = read_corpus(name)
    assert corpus, "python -m trust.fuzz_readers NAME --keep makes one"
    for data in corpus:
        check_memory(target, read, data)


def npy(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )


def record(*statements: str) -> bytes:
    """The seed's record after some statements."""
    import sqlite3

    database = sqlite3.connect(":memory:")
    database.deserialize(TARGETS["record"].seeds()[0])
    for statement in statements:
        database.execute(statement)
    database.commit()
    return database.serialize()


IHDR = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
PIXELS = zlib.compress(bytes(20))
LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
TERABYTE = "{'descr':'<f4','fortran_order':False,'shape':(1000000000000,)}\n"
KEYS = "{b'a': 1, 'b': 2, 'c': 3}\n"  # which cannot be sorted
CHECKPOINT = {"format": "deeplab_native_training/1", "iteration": "1", "average_updates": "1"}


def archive_that_claims_4_gb() -> bytes:
    """A stored member that is no array, of a size that the archive does not have."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", b"no array")
    whole = bytearray(stream.getvalue())
    sizes = whole.rindex(b"PK\x01\x02") + 20
    whole[sizes : sizes + 8] = struct.pack("<2I", 0xFFFFFFF0, 0xFFFFFFF0)
    return bytes(whole)


def before_its_file() -> bytes:
    """A zip file whose list of entries claims to begin 1,000 bytes further behind."""
    whole = bytearray(containers.rezipped([("archive/data.pkl", b"\x80\x02}.")]))
    at = whole.rindex(b"PK\5\6") + 16
    (begins,) = struct.unpack_from("<I", whole, at)
    struct.pack_into("<I", whole, at, begins + 1_000)
    return bytes(whole)


def volume_of(depth: int) -> bytes:
    whole = bytearray(TARGETS["volume"].seeds()[0])
    struct.pack_into("<h", whole, 46, depth)  # dim[3]
    return bytes(whole)


def member_that_claims(size: int) -> bytes:
    info = tarfile.TarInfo("a.txt")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def safetensors(header: dict[str, str]) -> bytes:
    text = json.dumps({"__metadata__": header}).encode()
    return len(text).to_bytes(8, "little") + text


FOUND = {
    # what libraries raise for damaged files, and readers let through
    "NumPy's tokenizer": ("scores", npy("(\n")),
    "of an archive": ("trunk", containers.rezipped([("00_conv.weight.npy", npy("(\n"))])),
    "NumPy's parser": ("scores", npy("(" * 3000 + "\n")),
    "NumPy's sorted": ("trunk", containers.rezipped([("00_conv.weight.npy", npy(KEYS))])),
    "zipfile's seek": ("pickles", before_its_file()),
    "the map of a file": ("volume", volume_of(-1000)),
    "Pillow's ValueError": ("labels", png(IHDR, (b"fcTL", b"short"), (b"IDAT", PIXELS))),
    "SQLite's message": ("record", record().replace(b"CREATE TABLE i", b"CREAT\xc5 TABLE i")),
    "a date that there is none of": ("config", b"a: 2001-99-99\n"),
    "a boolean": ("config", b"a: !!bool x\n"),
    "a time": ("config", b"a: !!timestamp x\n"),
    "brackets in brackets": ("config", b"[" * 3000),
    "in a checkpoint": ("checkpoint", safetensors(CHECKPOINT | {"record": "[" * 100_000})),
    "a checkpoint's list": ("checkpoint", safetensors(CHECKPOINT | {"record": "[]"})),
    "a long number as a key": ("classes", b'{"' + b"1" * 5000 + b'": "a"}'),
    "an empty file": ("pickles", b""),
    # what a file only claims
    "a terabyte of scores": ("scores", npy(TERABYTE)),
    "4 GB of a header": ("scores", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{"),
    "4 GB of an archive": ("scores", archive_that_claims_4_gb()),
    "4 GB of a PNG": ("labels", png(IHDR)[:33] + b"\xff\0\0\0IDAT" + PIXELS + bytes(4)),
    "a number in place of bytes": ("record", record("UPDATE counts SET packed = 1000000000000")),
    "a row of all memory": ("record", record().replace(b"\x13\2\3\x1d\x1dse", b"\xff" * 7)),
    "aliases of aliases": ("config", (LAUGHS + "i: " + "[*i, " * 3 + "*i" + "]" * 3).encode()),
    "a number of 100,000 bits": ("config", b"a: 0x1" + b"0" * 25_000),
    # what never ends
    "a list that has itself": ("config", b"a: &x [*x]\n"),
    "a view": ("record", record("DROP TABLE images", "CREATE VIEW images AS WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS image, i AS files FROM n")),
    "a member of exabytes": ("shard", member_that_claims(1 << 60)),
    "a device": ("config", b"extends: /dev/zero\n"),
    "a picture of a device": ("labelme", b'{"shapes":[],"imagePath":"/dev/zero"}'),
}  # fmt: skip


WHOLE = {"4 GB of a PNG"}  # all pixels are there


@pytest.mark.parametrize("code", [7, 56])
def test_a_volume_whose_unit_is_none(code, reader):
    _, read = reader("volume")
    whole = bytearray(TARGETS["volume"].seeds()[0])
    whole[123] = code  # xyzt_units
    assert survives(read, bytes(whole), "volume")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", FOUND)
def test_found(case, reader):
    """Each of these once was another error, a hang, or memory without a limit."""
    name, data = FOUND[case]
    target, read = reader(name)
    if name == "trunk":  # which lists what is wrong
        check_memory(target, read, data)
        return
    assert survives(read, data, name) == (case in WHOLE)
    check_memory(target, read, data)


BOMBS = {
    "caffemodel": b"\xa2\x06\x7f" + b"\x3a\x00" * 20_000,
    "classes": b"[" + b"[]," * 20_000 + b"[]]",
    "config": b"[" + b"a," * 3000 + b"a]",
    "coco": b'{"images":[' + b"{}," * 20_000 + b"{}]}",
    "labelme": b'{"shapes":[' + b"{}," * 20_000 + b"{}]}",
    "pickles": b"\x80\x02" + b"\x8f" * 20_000 + b".",
    "torch": b"\x80\x02" + b"}\x94" * 20_000 + b".",
}


@pytest.mark.parametrize("name", BOMBS)
def test_memory_grows_with_the_file_at_most(name, reader):
    """The most objects that a byte can make; files of the corpora are too small to show it."""
    target, read = reader(name)
    check_memory(target, read, BOMBS[name])


def test_limits_are_in_the_documentation():
    page = (Path(fuzz_readers.__file__).parent.parent / "docs" / "files.md").read_text()
    for target in TARGETS.values():
        times, constant = target.memory
        assert f"| {target.reads} | {times:,} n + {constant // 1024:,} KB |\n" in page


def test_a_finding_is_one():
    def crash(data):
        raise KeyError(data)

    def unnamed(data):
        raise ValueError("damaged")

    def greedy(data):
        return np.zeros(300_000, np.uint8)

    with pytest.raises(KeyError):
        survives(crash, b"", "file")
    with pytest.raises(FindingError, match="does not name the file"):
        survives(unnamed, b"", "file")
    with pytest.raises(FindingError, match="bytes of memory for a file of 1"):
        check_memory(TARGETS["caffemodel"], greedy, b"x")


@pytest.mark.parametrize("name", [n for n, t in TARGETS.items() if t.mutator])
def test_mutators_make_files_again(name):
    """Of any data, some bytes; and not the same ones each time."""

    def blind(data, most):
        return (data[:3] + b"~" + data[4:])[:most]

    made = {
        TARGETS[name].mutator(data, 512, seed, blind)
        for data in (*TARGETS[name].seeds(), b"", b"\xff" * 20, b"PK\x03\x04")
        for seed in range(24)
    }
    assert len(made) > 5


def test_a_changed_field_has_the_right_length(reader):
    _, read = reader("caffemodel")
    whole = TARGETS["caffemodel"].seeds()[0]
    made = [
        mutators.caffemodel(whole, 500, 8 * seed, lambda d, _: d[:-1] + b"x") for seed in range(99)
    ]
    assert sum(survives(read, data, "caffemodel") for data in made) > 20
