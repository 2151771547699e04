"""Nothing that a file holds is run: not in the source, and not by any reader."""

from __future__ import annotations

import json
import pickle
import sqlite3
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("yaml", reason="no yaml: pip install 'deeplab_native[train]'")

from deeplab_native import weights
from deeplab_native._annotations import read_coco, read_labelme
from deeplab_native._images import read_index_png, read_picture
from deeplab_native.data import find_data, open_dataset
from deeplab_native.data.classes import as_class_set
from deeplab_native.data.lists import read_ids
from deeplab_native.jobs import ScoreFormat
from deeplab_native.jobs._nifti import read_volume
from deeplab_native.jobs._record import Record
from deeplab_native.jobs._score_files import read_array
from deeplab_native.jobs._search_record import SearchRecord
from deeplab_native.models import DeepLab, create_model
from deeplab_native.training import checkpoints, config_file
from deeplab_native.web.limits import Limits, check_labelling, check_photo
from deeplab_native.weights.mobilenet_v2 import load_imagenet_trunk
from python_tests.trust.hostile_pickles import Marker

NET = "deeplab_mobilenetv2_aspp"


@pytest.fixture(scope="module")
def net():
    return create_model(NET, 3, seed=0)


@pytest.fixture
def marker(tmp_path):
    return Marker(tmp_path / "the file was run")


@pytest.mark.parametrize("suffix", [".pt", ".npy"])
def test_the_marker_works(tmp_path, marker, suffix):
    """Or the rest of this file would say nothing."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(dict(marker.spellings())["torch" if suffix == ".pt" else "npy"])
    if suffix == ".pt":
        torch.load(path, weights_only=False)
    else:
        np.load(path, allow_pickle=True)
    assert Path(marker.path).is_dir()


def _classes(path):
    (path.parent / "images").mkdir(exist_ok=True)
    (path.parent / "labels").mkdir(exist_ok=True)
    for name in ("a", "b"):
        values = np.arange(64, dtype=np.uint8).reshape(8, 8) % 2
        Image.fromarray(values).save(path.parent / f"images/{name}.png")
        Image.fromarray(values).save(path.parent / f"labels/{name}.png")
    return path.parent


def _record(path):
    with_blobs = sqlite3.connect(path.with_suffix(".sqlite"))
    with with_blobs:
        with_blobs.execute("CREATE TABLE about (what, value)")
        with_blobs.execute("CREATE TABLE images (image, files)")
        with_blobs.execute("CREATE TABLE counts (image, variant, packed)")
        rows = [("format", "deeplab_native search 1"), ("settings", "{}")]
        with_blobs.executemany("INSERT INTO about VALUES (?, ?)", rows)
        with_blobs.execute("INSERT INTO images VALUES ('a', 'd')")
        content = path.read_bytes()
        with_blobs.execute("INSERT INTO counts VALUES ('a', '[1, 2, 3, 4, 5]', ?)", (content,))
    with_blobs.close()
    SearchRecord(Record(path.with_suffix(".sqlite"), "search", {}), {"a": "d"}, 3)


def _checkpoint(path, net):
    state = checkpoints.State(net, torch.optim.SGD(net.parameters(), 0.1), None)
    checkpoints.load_checkpoint(path, state)


# What opens a file that may be somebody else's: the name that the file gets, and the reader
READERS = {
    "weights.load": ("a.pth", lambda path, net: weights.load(net, path)),
    "weights.load_model": ("a.pt", lambda path, net: weights.load_model(path)),
    "weights.recognise": ("a.caffemodel", lambda path, net: weights.recognise(path)),
    "weights.read_metadata": ("a.safetensors", lambda path, net: weights.read_metadata(path)),
    "ImageNet trunk": (
        "a.npz",
        lambda path, net: load_imagenet_trunk(net, path),
    ),
    "from_pretrained": (
        "model.safetensors",
        lambda path, net: DeepLab.from_pretrained(path.parent),
    ),
    "convert": (
        "a.bin",
        lambda path, net: weights.convert(path, path.parent / "out.safetensors"),
    ),
    "scores": ("a.npy", lambda path, net: read_array(path)),
    "scores by key": ("a.npz", lambda path, net: read_array(path, "arr_0")),
    "scores of a photograph": ("a.pt", lambda path, net: ScoreFormat().read(path, (8, 8))),
    "pictures": ("a.jpg", lambda path, net: read_picture(path)),
    "label PNGs": ("a.png", lambda path, net: read_index_png(path)),
    "volumes": ("a.nii", lambda path, net: read_volume(path)),
    "packed volumes": ("a.nii.gz", lambda path, net: read_volume(path)),
    "configurations": ("a.yaml", lambda path, net: config_file.load_config(path)),
    "overrides": (
        "a.yaml",
        lambda path, net: config_file.merge_overrides(
            {}, [f"model.name={path.read_text(errors='replace')}"]
        ),
    ),
    "checkpoints": ("iteration_00000001.safetensors", _checkpoint),
    "records of checkpoints": ("a.safetensors", lambda path, net: checkpoints.read_record(path)),
    "records of runs": ("a.sqlite", lambda path, net: Record(path, "crf", {})),
    "results in records": ("a.bin", lambda path, net: _record(path)),
    "LabelMe": ("a.json", lambda path, net: read_labelme(path)),
    "COCO": ("instances.json", lambda path, net: read_coco(path)),
    "classes": ("classes.json", lambda path, net: as_class_set(path)),
    "own data": ("classes.json", lambda path, net: find_data(_classes(path))),
    "data sets": ("classes.json", lambda path, net: open_dataset("folder", _classes(path))),
    "lists": ("val.txt", lambda path, net: read_ids(path)),
    "photographs of the page": ("file", lambda path, net: check_photo(path, Limits())),
    "labels of the page": ("file", lambda path, net: check_labelling(path, Limits())),
}
_NEEDS = {"from_pretrained": "huggingface_hub", "volumes": "nibabel", "packed volumes": "nibabel"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
def test_no_reader_runs_what_a_file_says(tmp_path, marker, net, reader):
    if reader in _NEEDS and find_spec(_NEEDS[reader]) is None:
        pytest.skip(f"{_NEEDS[reader]} is not installed")
    name, read = READERS[reader]
    for i, (spelling, content) in enumerate(marker.spellings()):
        path = tmp_path / str(i) / name
        path.parent.mkdir()
        path.write_bytes(content)
        with suppress(ValueError, OSError, TypeError):  # what users may see
            read(path, net)
        assert not Path(marker.path).exists(), spelling


def test_what_runs_between_our_own_processes_is_no_pickle_of_a_file(tmp_path):
    """Units of work are JSON; a pickle in their place is an error."""
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'deeplab_native[ray]'")
    from deeplab_native.jobs.ray._inputs import Member, Unit

    unit = Unit(
        "a", "files", "", images=2, keep=frozenset({"b"}),
        members=(Member("a", "x/a.png", None, "1"), Member("\udcff", "y", "z", "")),
    )  # fmt: skip
    assert Unit.of_text(unit.text()) == unit
    assert Unit.of_text(Unit("a", "tar", "x.tar", size=3).text()).images is None
    with pytest.raises(ValueError, match="Expecting value"):
        Unit.of_text(pickle.dumps(unit).decode("latin-1"))


@pytest.mark.skipif(find_spec("ray") is None, reason="no ray: pip install 'deeplab_native[ray]'")
def test_columns_of_parquet_that_run_code(tmp_path, marker):
    """Ray's types unpickle values, those of some versions the schema; in a process with Ray."""
    code = f"""
import pyarrow as pa, pyarrow.parquet as pq, ray.data
from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType
from ray.data.extensions import ArrowTensorType
from deeplab_native.jobs.ray import _samples
from deeplab_native.jobs.ray._inputs import Unit
from python_tests.trust.hostile_pickles import Marker

def column(kind, value):
    return pa.ExtensionArray.from_storage(kind, pa.array([value], kind.storage_type))

run = column(ArrowPythonObjectType(), Marker({marker.path!r}).pickled())
# the last one an honest one, whose values nobody here could use either
tensor = column(ArrowTensorType((2,), pa.uint8()), [1, 2])
for image in (run, pa.StructArray.from_arrays([run], ["bytes"]), tensor):
    pq.write_table(pa.table({{"key": pa.array(["a"]), "image": image}}), "a.parquet")
    columns, unit = _samples.Columns(), Unit("a", "parquet", "a.parquet")
    for read in (
        lambda: list(_samples.samples(unit, columns, refine=False)),
        lambda: _samples.parquet_groups("a.parquet", columns, refine=False),
    ):
        try:
            print(read())
        except _samples.ShardError as error:
            print(error)
"""
    root = str(Path(__file__).parents[2])
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {root!r})\n{code}"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout.count("columns of an extension type") == 6, run.stdout + run.stderr
    assert not Path(marker.path).exists()


def test_plain_parquet_is_read(tmp_path):
    pytest.importorskip("fsspec", reason="no fsspec: pip install 'deeplab_native[ray]'")
    pa = pytest.importorskip("pyarrow", reason="no pyarrow: pip install 'deeplab_native[ray]'")
    import pyarrow.parquet

    from deeplab_native.jobs.ray import _samples
    from deeplab_native.jobs.ray._inputs import Unit

    like_datasets = [{"bytes": b"a picture", "path": None}]
    about = {b"huggingface": json.dumps({"info": {"features": "x" * 500}}).encode()}
    schema = pa.schema(
        [("key", pa.string()), ("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))],
        about,
    )
    table = pa.table({"key": ["a"], "image": like_datasets}, schema)
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    unit = Unit("a", "parquet", str(tmp_path / "a.parquet"))
    (sample,) = _samples.samples(unit, _samples.Columns(), refine=False)
    assert sample.image == b"a picture" and sample.error is None
