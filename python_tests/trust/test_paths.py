"""Nothing is written outside of the output folder, whatever names and links say; what is read."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deeplab_native import jobs
from deeplab_native._annotations import read_labelme
from deeplab_native._files import atomic_path, below, check_inside
from deeplab_native.data import open_dataset
from deeplab_native.interop import refine_coco
from deeplab_native.jobs._record import _TABLES, Record

UP = ["../evil", "../../evil", "a/../../evil", "/tmp/evil", "..", ""]


@pytest.fixture
def outside(tmp_path):
    """A file that nobody named."""
    path = tmp_path / "home/.bashrc"
    path.parent.mkdir()
    path.write_text("mine")
    yield path
    assert path.read_text() == "mine" and os.listdir(path.parent) == [".bashrc"]


@pytest.fixture
def pair(tmp_path):
    """Folders of a photograph and its scores, and where results go."""
    photos, scores, out = (tmp_path / name for name in ("photos", "scores", "out"))
    for folder in (photos, scores, out):
        folder.mkdir()
    values = np.random.default_rng(0).normal(size=(2, 12, 16))
    Image.fromarray((values[0] > 0).astype(np.uint8) * 200).convert("RGB").save(photos / "a.png")
    np.save(scores / "a.npy", values.astype(np.float32))
    return photos, scores, out


def refine(pair, **more):
    photos, scores, out = pair
    return jobs.refine(photos, scores, out, workers=0, threads=1, **more)


def test_a_link_in_place_of_a_file_is_not_followed_out_of_its_folder(tmp_path, outside):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "a.png").symlink_to(outside)
    with (
        pytest.raises(FileExistsError, match=r"a\.png is a symbolic link out of its folder, to "),
        atomic_path(folder / "a.png"),
    ):
        pytest.fail("it was begun")


def test_a_link_in_place_of_a_result(pair, outside):
    _, _, out = pair
    (out / "a.png").symlink_to(outside)
    with pytest.raises(ValueError, match=r"has a\.png, but no crf\.json"):
        refine(pair)
    assert refine(pair, overwrite=True).failed == {}  # what is there goes, and not through the link
    assert not (out / "a.png").is_symlink()
    (out / "a.png").unlink()
    (out / "a.png").symlink_to(outside)  # beside its record
    os.utime(pair[1] / "a.npy", (1, 1))
    (reason,) = refine(pair).failed.values()
    assert "a symbolic link out of its folder" in reason


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["crf.json", "crf.sqlite", "crf.sqlite-journal", "overlays"])
def test_links_in_place_of_what_a_run_has_beside_its_results(pair, outside, name, overwrite):
    (pair[2] / name).symlink_to(outside.parent if name == "overlays" else outside)
    if overwrite and "sqlite" in name:  # which goes first
        assert refine(pair, overwrite=True).failed == {}
        return
    with pytest.raises((ValueError, OSError), match=f"{name}"):
        refine(pair, overlay=True, overwrite=overwrite)
    assert os.listdir(pair[2]) == [name]


def test_the_folder_itself_may_be_a_link(pair, tmp_path):
    real = pair[2].rename(tmp_path / "real")
    pair[2].symlink_to(real)
    assert refine(pair, overlay=True).failed == {}
    assert (real / "a.png").is_file() and (real / "overlays/a.png").is_file()


@pytest.mark.parametrize("name", ["checkpoints", "pictures", "tensorboard", "config.yaml"])
def test_links_in_the_folder_of_a_training(tmp_path, outside, name):
    pytest.importorskip("pydantic", reason="no pydantic: pip install 'deeplab_native[train]'")
    pytest.importorskip("yaml", reason="no yaml: pip install 'deeplab_native[train]'")
    from deeplab_native.training import folders
    from deeplab_native.training.config_file import load_config, shipped_configs

    out = tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(outside if "." in name else outside.parent)
    config = load_config(next(iter(shipped_configs().values())))
    with pytest.raises((ValueError, OSError), match="symbolic link"):
        folders.prepare(out, config, 0)


@pytest.mark.parametrize("name", ["masks", "manifest", "shards", "shards/s.json", "run.json"])
def test_links_in_the_folder_of_a_cluster(tmp_path, outside, name):
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'deeplab_native[ray]'")
    from deeplab_native.jobs.ray._store import Store

    store = Store(str(tmp_path / "out"))
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).symlink_to(outside if "." in name else outside.parent)
    with pytest.raises((ValueError, OSError), match="symbolic link"):
        store.write(name if "." in name else f"{name}/.bashrc", b"evil")


@pytest.mark.parametrize("key", UP)
def test_keys_of_shards(tmp_path, key):
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'deeplab_native[ray]'")
    from deeplab_native.jobs.ray._inputs import Unit
    from deeplab_native.jobs.ray._results import Results
    from deeplab_native.jobs.ray._store import Store

    for form in ("png", "tar"):
        with pytest.raises(ValueError, match="expected the name of a file"):
            Results(Store(str(tmp_path)), form).place(Unit("s", "tar", "s.tar"), key)


def test_results_that_name_another_shard(tmp_path):
    """The names in them are those of files that a run that goes on writes."""
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'deeplab_native[ray]'")
    from deeplab_native.jobs.ray._results import Finished, Results
    from deeplab_native.jobs.ray._store import Store

    (tmp_path / "shards").mkdir()
    one = Finished("../../evil", "s.tar", "1", 1, 1, None, "masks/s.tar", 1, None)
    (tmp_path / "shards/s.json").write_text(json.dumps(one.__dict__))
    with pytest.raises(ValueError, match=r"shards/s\.json is of a shard '\.\./\.\./evil'"):
        Results(Store(str(tmp_path)), "tar").finished()


@pytest.mark.parametrize("link", ["../../etc/passwd", "b.png"])
def test_links_in_archives_are_no_pictures(tmp_path, link):
    import tarfile

    pytest.importorskip("fsspec", reason="no fsspec: pip install 'deeplab_native[ray]'")
    from deeplab_native.jobs.ray import _samples
    from deeplab_native.jobs.ray._inputs import Unit
    from deeplab_native.jobs.ray._results import Results
    from deeplab_native.jobs.ray._store import Store
    from python_tests.trust.hostile_files import member, shard

    (tmp_path / "masks").mkdir()
    path = shard(
        tmp_path / "masks/s.tar",
        (member("a.png", 0, tarfile.SYMTYPE, link), b""),
        (member("a.png", 0, tarfile.LNKTYPE, link), b""),
        (member("b.png", 4), b"good"),
    )
    unit = Unit("s", "tar", str(path))
    (only,) = _samples.samples(unit, _samples.Columns(), refine=False)
    assert (only.key, only.image) == ("b", b"good")
    assert Results(Store(str(tmp_path)), "tar").masks(unit) == {"b": b"good"}


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TRIGGER t AFTER INSERT ON images BEGIN DELETE FROM counts; END",
        "CREATE VIEW v AS SELECT * FROM images",
    ],
)
def test_records_with_programs(tmp_path, sql):
    path = tmp_path / "crf.sqlite"
    Record(path, "crf", {}).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(sql)
    with pytest.raises(ValueError, match="not written by this job"):
        Record(path, "crf", {})


def test_a_record_whose_tables_are_views(tmp_path):
    """Reading one that has no end would have none."""
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x, x FROM c"
    with closing(sqlite3.connect(tmp_path / "crf.sqlite")) as database:
        database.execute(f"CREATE VIEW about (what, value) AS {endless}")
        for table in _TABLES[1:]:
            database.execute(table)
    with pytest.raises(ValueError, match="not written by this job"):
        Record(tmp_path / "crf.sqlite", "crf", {})


@pytest.mark.parametrize("name", UP[:-1])
def test_names_in_files(tmp_path, name):
    with pytest.raises(ValueError, match=r"list 7: .* leads out of"):
        below(tmp_path, name, "list 7")
    assert below(tmp_path, "a/b..c.png", "list") == tmp_path / "a/b..c.png"


@pytest.mark.parametrize("name", UP[:-2])
@pytest.mark.parametrize("kind", ["folder", "voc", "camvid"])
def test_lists_of_data_sets(tmp_path, name, kind):
    """`write_examples` and others name files by these names."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "evil.png")
    root = tmp_path / "data"
    for folder in ("images", "labels", "JPEGImages", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(root / "images/a.png")
    (root / "classes.json").write_text('["a", "b"]')
    lists = root / ("ImageSets/Segmentation/val.txt" if kind == "voc" else "val.txt")
    lists.write_text(f"{name}.jpg {name}.png" if kind == "voc" else name)
    where = "leads out of|is missing" if name[0] == "/" else "leads out of"
    with pytest.raises((ValueError, OSError), match=rf"{where}|is no name of a photograph"):
        open_dataset(kind, root, "val")


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png"])
def test_photographs_of_coco_and_labelme(tmp_path, name):
    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "evil.png")
    box = [[1.0, 1.0, 6.0, 1.0, 6.0, 6.0]]
    coco = {
        "images": [{"id": 1, "file_name": name, "height": 8, "width": 8}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": box}],
    }
    with pytest.raises(ValueError, match=r"`document`: file_name: .* leads out of"):
        refine_coco(coco, tmp_path / "photos")
    if name[0] == "/":  # LabelMe itself writes ../photos/a.jpg
        (tmp_path / "photos/a.json").write_text(json.dumps({"shapes": [], "imagePath": name}))
        with pytest.raises(ValueError, match=r"imagePath '/etc/evil\.png' is absolute"):
            read_labelme(tmp_path / "photos/a.json")


def test_temporary_files_have_names_that_nobody_knows_and_the_umask(tmp_path):
    names = []
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            for _ in range(2):
                with atomic_path(tmp_path / "a.txt") as temporary:
                    names.append(temporary.name)
                    temporary.write_text("x")
            assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
        finally:
            os.umask(before)
    assert len({*names}) == 4 and all(len(name) >= len(".a.123456789abc.txt") for name in names)


def test_links_inside_of_a_folder_are_no_matter(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    check_inside(tmp_path, [tmp_path / "link/a.png", Path("/elsewhere")])
