"""What `jobs.ray` is made of, without a cluster: inputs, samples, the board, stores, arguments."""

import io
import tarfile

import numpy as np
import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'deeplab_native[ray]'")
pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

from fsspec.implementations.memory import MemoryFileSystem

from deeplab_native.jobs.ray import _store
from deeplab_native.jobs.ray._board import MOST_DEATHS, Board
from deeplab_native.jobs.ray._inputs import Unit, find, in_braces
from deeplab_native.jobs.ray._results import Results, Row
from deeplab_native.jobs.ray._samples import Columns, ShardError, as_file, samples
from deeplab_native.jobs.ray._store import Store
from deeplab_native.jobs.ray._units import units_of
from python_tests.jobs import ray_cases as cases

PHOTO = cases.encoded(next(iter(cases.photos(1).values())))
SCORES = cases.array(np.zeros((2, 3, 4), np.float32))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{08..10}.tar", ["s-08.tar", "s-09.tar", "s-10.tar"]),
        ("{1..2}/{3..4}", ["1/3", "1/4", "2/3", "2/4"]),
    ],
)
def test_braces(url, expected):
    assert in_braces(url) == expected


def read(path, *, refine=False, columns=None, **unit):
    unit = Unit("s", "tar", str(path), **unit)
    return list(samples(unit, columns or Columns(), refine=refine))


def test_samples_of_a_shard(tmp_path):
    members = {
        "./x/a.jpg": PHOTO, "./x/a.npy": SCORES, "./x/a.json": b"{}",  # a folder is of the key
        "b.seg.png": PHOTO, "b.jpg": PHOTO,  # a mask beside its photograph
        "c.jpg": PHOTO,
        ".hidden": b"", "d.txt": b"",
        "c.npy": SCORES,  # not beside its picture
    }  # fmt: skip
    shard = cases.write_tar(tmp_path / "s.tar", members)
    found = {(s.key, s.error): s for s in read(shard, refine=True)}
    twice = "its key is twice in the shard (the first is used)"
    no_scores = "no scores among its members (jpg)"
    no_picture = "no picture among its members (txt)"
    expected = [("x/a", None), ("b", None), ("c", no_scores), ("d", no_picture), ("c", twice)]
    assert list(found) == expected
    assert found["x/a", None].image == PHOTO and found["x/a", None].scores == SCORES
    assert found["b", None].scores == PHOTO
    errors = [(s.key, s.error) for s in read(shard)]
    several = "several pictures, of which `image_column` is to choose among its members"
    assert errors[1] == ("b", f"{several} (jpg, seg.png)")
    by_name = read(shard, columns=Columns(image="seg.png"), refine=False)
    assert [s.key for s in by_name if s.error is None] == ["b"]
    assert [s.key for s in read(shard, keep=frozenset({"x/a", "b"}))] == ["c", "d", "c"]


@pytest.mark.parametrize("form", ["", "gz"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.8, "at a member", "without its end"])
def test_a_shard_that_is_cut_off_is_said_to_be(tmp_path, form, part):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode=f"w:{form}") as tar:
        for i in range(4):
            info = tarfile.TarInfo(f"{i}.png")
            info.size = len(PHOTO)
            tar.addfile(info, io.BytesIO(PHOTO))
    whole = content.getvalue()
    if isinstance(part, str) and form:
        pytest.skip("a compressed file knows its own end")
    each = 512 + -(-len(PHOTO) // 512) * 512
    length = {"at a member": 2 * each, "without its end": 4 * each}.get(part)
    length = round(part * len(whole)) if length is None else length
    (tmp_path / "s.tar").write_bytes(whole[:length])
    found = []
    with pytest.raises(ShardError, match="damaged or cut off"):
        for sample in samples(Unit("s", "tar", str(tmp_path / "s.tar")), Columns(), refine=False):
            found.append(sample)
    assert all(s.error is None and s.image == PHOTO for s in found)
    if not form:
        assert len(found) == min(4, length // each)


def test_what_is_no_shard(tmp_path):
    for name, kind in (("a.tar", "tar"), ("a.parquet", "parquet")):
        (tmp_path / name).write_bytes(b"<html>404</html>" * 100)
        with pytest.raises(ShardError, match="damaged or cut off"):
            list(samples(Unit("a", kind, str(tmp_path / name)), Columns(), refine=False))


def test_bytes_as_a_file():
    with as_file(PHOTO) as path:
        assert path.read_bytes() == PHOTO
    assert not path.exists()


def test_the_board_knows_whose_fault_it_is():
    board = Board()
    assert board.begin("u") == {} and board.begin("v") == {}
    assert board.report("u", 3, [("k", "bad")]) is False
    assert board.begin("u") == {"": 1}  # died, of nobody knows what
    for deaths in range(1, MOST_DEATHS + 1):
        board.alone("u", "x")
        assert board.begin("u")["x"] == deaths
    board.report("u", 5, [("k", "bad")])
    board.report("v", 2, [])
    images, failures, restarts = board.state()
    # what a dead worker had done and said is not counted twice
    assert (images, failures, restarts) == (7, [("u", "k", "bad")], 3)
    assert board.state().failures == []
    board.stop()
    assert board.begin("w") is None and board.report("v", 3, []) and board.alone("u", "y")


class Slow(MemoryFileSystem):
    """A store in which files have to be moved to appear as one."""

    protocol = ("slow",)
    store: dict = {}  # noqa: RUF012, of its own
    pseudo_dirs = [""]  # noqa: RUF012
    broken = False

    def mv(self, *arguments, **_):
        if self.broken:
            raise OSError("no connection")
        super().mv(*arguments)


@pytest.mark.parametrize("url", ["memory://there", "slow://there"])
def test_stores_elsewhere(url, monkeypatch):
    fs = Slow(skip_instance_cache=True) if url.startswith("slow") else MemoryFileSystem()
    monkeypatch.setattr(_store, "filesystem", lambda text: (fs, text.partition(":/")[2]))
    monkeypatch.setattr(_store, "local_path", lambda _: None)
    store = Store(url)
    store.write("shards/x/a.json", b"1")
    store.write("shards/x/a.json", b"22")
    assert store.names("shards") == ["shards/x/a.json"]
    assert list(store.read_many(["shards/x/a.json"])) == [b"22"]
    if isinstance(fs, Slow):
        monkeypatch.setattr(Slow, "broken", True)
        with pytest.raises(OSError, match="no connection"):
            store.write("shards/x/a.json", b"333")
        assert store.read("shards/x/a.json") == b"22"
    fs.pipe_file("/there/shards/.b.json.0123456789ab.part", b"")  # of a worker that was killed
    store.remove_leftovers(["shards", "manifest"])
    assert [path.rpartition("/")[2] for path in fs.find("/there")] == ["a.json"]
    store.remove(["shards", "manifest"])
    assert store.names("shards") == []


@pytest.mark.parametrize("form", ["png", "tar", "parquet"])
def test_results_come_back(tmp_path, form):
    results = Results(Store(str(tmp_path)), form)
    unit = Unit("deep/s", "tar", "s.tar", "state")
    row = Row("k/1", "ok", "s.tar", "state", results.place(unit, "k/1"), 48, 64, {"0": 3072})
    rows = [row, Row("bad", "failed", "s.tar", "state", error="why")]
    finished = results.write(unit, {"k/1": PHOTO}, rows, None)
    assert (finished.images, finished.failed) == (1, 1)
    assert results.rows("deep/s") == rows and results.finished() == {"deep/s": finished}
    assert results.masks(unit) == ({} if form == "png" else {"k/1": PHOTO})
    assert list(cases.masks_in(tmp_path).values()) == [PHOTO]


@pytest.mark.parametrize("key", ["../up", "/etc/passwd", "a/../../b", "", "a\\b", "a\nb", "."])
def test_hostile_keys(key, tmp_path):
    results = Results(Store(str(tmp_path)), "png")
    with pytest.raises(ValueError, match="expected the name of a file"):
        results.place(Unit("s", "tar", "s.tar"), key)


def test_units_do_not_depend_on_what_is_finished(tmp_path):
    folder = cases.write_folder(tmp_path / "photos", 10)
    results = Results(Store(str(tmp_path / "out")), "png")
    inputs = find([str(folder)], None, refine=False)
    todo = units_of(inputs, results, Columns(), 4, refine=False)
    assert [len(unit.members) for unit in todo.units] == [4, 4, 2] and todo.skipped == 0
    first = todo.units[0]
    rows = [Row(m.key, "ok", m.image, m.state, f"masks/{m.key}.png") for m in first.members]
    rows[1] = Row(rows[1].key, "failed", rows[1].input, rows[1].state, error="why")
    results.write(first, dict.fromkeys((m.key for m in first.members), PHOTO), rows, None)
    again = units_of(inputs, results, Columns(), 4, refine=False)
    assert again.skipped == 3 and again.units[1:] == todo.units[1:]
    assert again.units[0].name == first.name
    assert again.units[0].keep == {m.key for m in first.members} - {rows[1].key}
