"""Training on drawn shapes: it learns, goes on exactly, and says what is wrong with its input."""

import csv
import json
import os
import signal
import subprocess
import sys
from hashlib import sha256

import pytest
import torch
from PIL import Image

from deeplab_native import weights
from deeplab_native.data import SampleError
from deeplab_native.training import check_config, dump_config, train
from deeplab_native.training.loop import Loop
from python_tests.cli.cli_cases import fails
from python_tests.training import training_cases as cases
from python_tests.viz.pages import without_date

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return cases.write_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(autouse=True)
def tiny_net(monkeypatch, set_threads):
    cases.register_tiny_net(monkeypatch)


@pytest.fixture
def stop_after(monkeypatch):
    """stop_after(n, signal): the process gets the signal in update n."""
    update = Loop._update

    def arm(n, number=signal.SIGTERM):
        def interrupted(self, *arguments):
            if self.state.iteration + 1 == n:
                if number is None:
                    raise KeyboardInterrupt
                os.kill(os.getpid(), number)
            return update(self, *arguments)

        monkeypatch.setattr(Loop, "_update", interrupted)

    yield arm
    monkeypatch.undo()


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def checksum(run):
    return sha256((run / "net.safetensors").read_bytes()).hexdigest()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_learns_the_shapes(shapes, tmp_path):
    config = cases.config_of(
        shapes,
        schedule={"iterations": 60, "warmup": 5},
        validation={"every": 30, "pictures": 2},
        crf={"w1": 4, "sigma_alpha": 67, "sigma_beta": 3, "w2": 3, "sigma_gamma": 1},
    )
    outcome = train(config, tmp_path / "run")
    assert outcome.scores.mean_iou > 0.8
    log = rows(tmp_path / "run/training.csv")
    assert [row["iteration"] for row in log] == ["10", "20", "30", "40", "50", "60"]
    assert float(log[-1]["loss"]) < 0.3 * float(log[0]["loss"])
    assert [row["iteration"] for row in rows(tmp_path / "run/validation.csv")] == ["30", "60"]
    assert float(rows(tmp_path / "run/validation.csv")[1]["mean_iou"]) == pytest.approx(
        outcome.scores.mean_iou
    )
    assert len(list((tmp_path / "run/pictures").iterdir())) == 4
    assert list((tmp_path / "run/tensorboard").iterdir())
    about = weights.read_metadata(outcome.weights)
    assert about.class_names == ("background", "disc", "square", "triangle")
    assert (about.crf.sigma_alpha, about.palette[1]) == (67, (128, 0, 0))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, None])
def test_goes_on_exactly(shapes, tmp_path, stop_after, monkeypatch, number):
    """Average, momentum, frozen trunk, dropout, order and schedule as without the interruption.

    Signals write a checkpoint; a KeyboardInterrupt (a second Ctrl-C) loses what came after the
    last one, at iteration 4.
    """
    config = cases.config_of(
        shapes,
        schedule={"iterations": 7, "policy": "poly", "head_first": {"iterations": 3, "lr": 0.01}},
        ema=0.9,
        accumulate=2,
        log_every=1,
        checkpoints={"every": 4},
    )
    whole = train(config, tmp_path / "whole")
    stop_after(6, number)
    if number is None:
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "halves")
    else:
        outcome = train(config, tmp_path / "halves")
        assert (outcome.iteration, outcome.interrupted_by, outcome.weights) == (6, number, None)
    monkeypatch.undo()
    cases.register_tiny_net(monkeypatch)
    resumed = train(config, tmp_path / "halves", resume=True)
    assert resumed.iteration == whole.iteration == 10
    assert same(cases.weights_of(tmp_path / "whole"), cases.weights_of(tmp_path / "halves"))
    assert checksum(tmp_path / "whole") == checksum(tmp_path / "halves")
    logs = [rows(tmp_path / f"{run}/training.csv") for run in ("whole", "halves")]
    for a, b in zip(*logs, strict=True):
        del a["images_per_second"], b["images_per_second"]
        assert a == b
    assert resumed.scores.mean_iou == whole.scores.mean_iou
    reports = [without_date(tmp_path / f"{run}/report.html") for run in ("whole", "halves")]
    assert reports[0] == reports[1]


def test_workers_change_nothing(shapes, tmp_path):
    for workers in (0, 2):
        data = {"dataset": "folder", "root": str(shapes), "workers": workers}
        config = cases.config_of(shapes, data=data, schedule={"iterations": 3})
        train(config, tmp_path / str(workers))
    assert same(cases.weights_of(tmp_path / "0"), cases.weights_of(tmp_path / "2"))


def test_head_first_leaves_the_trunk(shapes, tmp_path):
    schedule = {"iterations": 1, "warmup": 1000, "head_first": {"iterations": 3}}
    config = cases.config_of(shapes, schedule=schedule, data={**_data(shapes), "val": None})
    outcome = train(config, tmp_path / "run")
    assert outcome.scores is None
    start = cases.TinyNet(4, name="tiny")
    start.reset_parameters(torch.Generator().manual_seed(0))
    trained = cases.weights_of(tmp_path / "run")
    moved = {k: (trained[k] - v).abs().max() for k, v in start.state_dict().items()}
    assert moved["fc.weight"] > 100 * moved["conv1.weight"] > 0


def _data(shapes, **more):
    return {"dataset": "folder", "root": str(shapes), **more}


def damaged_shapes(tmp_path, name="03"):
    root = cases.write_shapes(tmp_path / "damaged", train=8, val=2)
    image = root / f"images/{name}.png"
    image.write_bytes(image.read_bytes()[:2000])
    return root


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_photograph_stops(tmp_path, workers):
    root = damaged_shapes(tmp_path)
    config = cases.config_of(root, data=_data(root, workers=workers))
    with pytest.raises(SampleError, match=r"^[^\n]*03.png: damaged or cut off[^\n]*$"):
        train(config, tmp_path / "run")


def test_damaged_photographs_are_left_out(tmp_path, capsys):
    root = damaged_shapes(tmp_path)
    damaged = root / "labels/09.png"
    damaged.write_bytes(b"nothing")
    data = _data(root, on_bad_sample="skip")
    outcome = train(cases.config_of(root, data=data), tmp_path / "run")
    assert sorted(outcome.failures) == ["03", "09"]
    assert "03.png: damaged or cut off" in outcome.failures["03"]
    err = capsys.readouterr().err
    assert err.count("left out: ") == 2
    assert "iteration 40/40: loss" in err


def test_bf16(shapes, tmp_path):
    config = cases.config_of(shapes, precision="bf16", schedule={"iterations": 30})
    train(config, tmp_path / "run")
    losses = [float(row["loss"]) for row in rows(tmp_path / "run/training.csv")]
    assert losses[-1] < losses[0]
    trained = cases.weights_of(tmp_path / "run")
    assert all(tensor.dtype == torch.float32 for tensor in trained.values())


@pytest.mark.parametrize(
    "what, message",
    [
        ("label", r"labels/02\.png: value 9 at row 0, column 0 .*expected 0 to 3, or 255"),
        ("size", r"labels/02\.png: labels of 64 x 60 for 02\.png, which is 64 x 64"),
        ("empty", r"train\.txt: an empty list"),
        ("root", r"root: .*nowhere is no folder"),
    ],
)
def test_bad_data(tmp_path, what, message):
    root = cases.write_shapes(tmp_path / "shapes", 4, 1)
    labels = cases.draw(2)[1]
    labels[0, 0] = 9 if what == "label" else 0
    Image.fromarray(labels[: 60 if what == "size" else None]).save(root / "labels/02.png")
    if what == "empty":
        (root / "train.txt").write_text("")
    config = cases.config_of(tmp_path / "nowhere" if what == "root" else root)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train(config, tmp_path / "run")


def test_heavy_imports_wait():
    """pydantic is not for other commands, and Lightning is imported by a run only."""
    code = """import sys, deeplab_native.cli.main
assert "pydantic" not in sys.modules
import deeplab_native.training
assert "lightning" not in sys.modules and "tensorboard" not in sys.modules"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_gradient_that_explodes_stops(shapes, tmp_path, monkeypatch):
    """Before the weights are changed: a checkpoint would hold them."""
    forward = cases.TinyNet.score_map

    def infinite(net, x):
        scores = forward(net, x)
        if net.training:
            scores.register_hook(lambda gradient: gradient * float("inf"))
        return scores

    monkeypatch.setattr(cases.TinyNet, "score_map", infinite)
    with pytest.raises(FloatingPointError, match=r"iteration 1: the norm of the gradient .*\d\d"):
        train(cases.config_of(shapes, optimizer={"lr": 0.1}), tmp_path / "run")
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_loss_that_explodes_stops(shapes, tmp_path):
    optimizer = {"lr": 1e12}
    with pytest.raises(
        FloatingPointError, match=r"iteration \d+: the loss is (nan|inf) at lr .*\d\d"
    ):
        train(cases.config_of(shapes, optimizer=optimizer), tmp_path / "run")


def test_a_folder_of_another_run(shapes, tmp_path):
    config = cases.config_of(shapes, schedule={"iterations": 2})
    train(config, tmp_path / "run")
    with pytest.raises(ValueError, match="has a run already"):
        train(config, tmp_path / "run")
    other = check_config(json.loads(config.model_dump_json()) | {"batch": 8, "log_every": 3})
    with pytest.raises(ValueError, match="another configuration: batch 4, now 8 "):
        train(other, tmp_path / "run", resume=True)
    data = _data(shapes, on_bad_sample="skip")  # after a photograph that stopped the run
    tolerant = cases.config_of(shapes, schedule={"iterations": 2}, data=data)
    again = train(tolerant, tmp_path / "run", resume=True)  # there is nothing left to do
    assert again.iteration == 2
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        train(config, tmp_path / "file")


def test_nothing_is_touched_before_all_is_checked(shapes, tmp_path):
    config = cases.config_of(shapes, model={"name": "tiny", "weights": "missing.pth"})
    with pytest.raises(FileNotFoundError, match=r"model.weights: missing\.pth is missing"):
        train(config, tmp_path / "run")
    config = cases.config_of(shapes, data=_data(shapes, options={"label": "labels"}))
    with pytest.raises(ValueError, match=r"data.options.label: unknown .* did you mean labels\?"):
        train(config, tmp_path / "run")
    for option, message in (
        ("colour", r"model.options: .*'colour'"),
        ("rates", "model.options: rates"),
    ):
        model = {"name": "deeplab_mobilenetv2_aspp", "options": {option: [1, 2]}}
        with pytest.raises(ValueError, match=message):
            train(cases.config_of(shapes, model=model), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_command(run, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = cases.config_of(shapes, schedule={"iterations": 4})
    (tmp_path / "c.yaml").write_text(dump_config(config))
    result = run("train", "c.yaml", "--out", "run", "--set", "schedule.iterations=3")
    assert result.code == 0
    assert "run/net.safetensors" in result.out and "iteration 3/3: loss" in result.err
    fails(run("train", "c.yaml", "--out", "run"), "has a run already")
    wrong = run("train", "c.yaml", "--out", "new", "--set", "optimizer.rate=1")
    fails(wrong, "optimizer.rate: unknown key")
    fails(run("train", "c.yaml", "--out", "new", "--data-root", "nowhere"), "nowhere", "no folder")
    assert not (tmp_path / "new").exists()


def test_the_extra_is_named(run, tmp_path, monkeypatch):
    from deeplab_native.cli import train as command

    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "lightning" else 1)
    fails(run("train", "c.yaml", "--out", tmp_path / "run"), "lightning", "deeplab_native[train]")
