"""What `jobs.ray` and `--ray` say of arguments that cannot be, before anything is started."""

import subprocess
import sys

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'deeplab_native[ray]'")
pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")

import numpy as np

from deeplab_native import jobs
from deeplab_native.cli._ray import with_address
from deeplab_native.jobs.ray import _cluster
from deeplab_native.jobs.ray._inputs import find
from deeplab_native.jobs.ray._results import Results
from deeplab_native.jobs.ray._samples import Columns
from deeplab_native.jobs.ray._store import Store
from deeplab_native.jobs.ray._units import units_of
from python_tests.jobs import ray_cases as cases

PHOTO = cases.encoded(next(iter(cases.photos(1).values())))
SCORES = cases.array(np.zeros((2, 3, 4), np.float32))


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    def connected(*_):
        raise AssertionError("nothing may be started")

    monkeypatch.setattr("deeplab_native.jobs.ray._public.connected", connected)


def test_ray_missing(tmp_path):
    code = (
        "import sys; sys.modules['ray'] = None\n"
        "import importlib.util as u; old = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'ray' else old(name, *a)\n"
        "sys.argv[1:] = ['segment', 'x', '--ray']\n"
        "from deeplab_native.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'deeplab_native[ray]'" in done.stderr and done.stderr.count("\n") == 1


def test_ray_is_imported_late():
    code = "import sys, deeplab_native.jobs as j; j.ray.segment; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_address_of_an_option():
    found = with_address(["segment", "--ray", "photos", "--ray", "auto", "--ray"])
    assert found == ["segment", "--ray=local", "photos", "--ray", "auto", "--ray=local"]
    assert with_address(["--ray", "ray://a:10001"]) == ["--ray", "ray://a:10001"]
    assert with_address(["--ray", "10.0.0.1:6379"]) == ["--ray", "10.0.0.1:6379"]


@pytest.fixture
def inputs(tmp_path):
    cases.write_folder(tmp_path / "photos", 2)
    cases.write_tar(tmp_path / "tars/a.tar", {"a.png": PHOTO})
    cases.write_parquet(tmp_path / "tables/a.parquet", {"key": ["a"], "image": [PHOTO]})
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("images", "how", "message"),
    [
        ("photos", {"masks": "jpg"}, r"`masks` jpg: expected one of png, tar, parquet"),
        ("photos", {"on_error": "go"}, r"`on_error` go: expected one of skip, stop"),
        ("photos", {"shard_images": 0}, "`shard_images`: expected a positive integer, got 0"),
        ("photos", {"batch": 2.5}, "`batch`: expected a positive integer, got 2.5"),
        ("photos", {"workers": 0}, "`workers`: expected a positive integer, got 0"),
        ("photos", {"gpus": -1}, "`gpus`: expected 0 or more, got -1"),
        ("nothing", {}, r"nothing: no such file or folder \(check the path\)"),
        ("*.nothing", {}, r"nothing: no file of such a name"),
        ("empty", {}, "no tar shards, Parquet files or pictures in this folder"),
        (("photos", "tars"), {}, "expected tar shards, Parquet files or pictures, got"),
        (("tars", "tars/a.tar"), {}, "results of both would be named a"),
        ("a-{5..2}.tar", {}, r"expected \{first..last\}, got \{5..2\}"),
        ("tables", {"output": "tables"}, "results would lie among the inputs"),
        ("photos", {"tile": 513, "longest_side": 5}, "`longest_side` and `tile`"),
    ],
)
def test_bad_arguments(inputs, images, how, message):
    given = [images] if isinstance(images, str) else images
    how = {"output": "out", **how}
    output = inputs / how.pop("output")
    with pytest.raises((ValueError, OSError), match=message):
        jobs.ray.segment([inputs / one for one in given], output, **how)
    assert not (inputs / "out").exists()


def test_bad_arguments_of_refine(inputs):
    with pytest.raises(ValueError, match="`scores`: expected the folder of scores"):
        jobs.ray.refine(inputs / "photos", None, inputs / "out")
    with pytest.raises(ValueError, match="of tar shards they are expected beside the images"):
        jobs.ray.refine(inputs / "tars", inputs / "photos", inputs / "out")
    (inputs / "empty/other.npy").write_bytes(SCORES)
    with pytest.raises(ValueError, match=r"no picture of .* has scores of the same name"):
        jobs.ray.refine(inputs / "photos", inputs / "empty", inputs / "out")


def test_a_column_that_is_not_there(inputs):
    found = find([str(inputs / "tables")], None, refine=False)
    results = Results(Store(str(inputs / "out")), "png")
    with pytest.raises(ValueError, match=r"`key_column` id: .*no such column \(it has key, image"):
        units_of(found, results, Columns(key="id"), 4, refine=False)


@pytest.mark.parametrize("error", [ConnectionError("none"), SystemExit(1)])
def test_no_cluster_there(monkeypatch, error):
    import ray

    def init(**_):
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    there = pytest.raises(ConnectionError, match="`ray` auto: no cluster there")
    with there, _cluster.connected("auto"):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "photos", "--masks", "tar"], "--masks is for --ray"),
        (["segment", "photos", "--ray", "--device", "cuda"], "workers have the GPUs"),
        (["segment", "photos", "--ray", "--save-scores", "x"], "--save-scores is for one machine"),
        (["segment", "photos", "--ray", "--on-error", "x"], "--on-error x: expected one of"),
        (["crf", "photos", "photos", "--ray"], "--output: expected a folder"),
        (["crf", "photos", "x", "--ray", "-o", "o", "--overlay"], "--overlay is for one machine"),
    ],
)
def test_bad_options(inputs, monkeypatch, run, arguments, message):
    monkeypatch.chdir(inputs)
    result = run(*arguments)
    assert result.code == 1 and message in result.err
