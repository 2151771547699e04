"""Checkpoints that stay whole, and several processes that train as one."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from deeplab_native.training import (
    State,
    WeightAverage,
    build_model,
    checkpoints,
    dump_config,
    load_checkpoint,
    make_optimizer,
    save_checkpoint,
    train,
)
from deeplab_native.training.config import Config, Optimizer
from deeplab_native.training.folders import restore
from deeplab_native.training.processes import check_shares, make_fabric
from python_tests.models.small_net import SmallNet
from python_tests.training import training_cases as cases


def state(seed=0, steps=2):
    """A net after some updates with gradients of noise."""
    model = SmallNet()
    model.reset_parameters(torch.Generator().manual_seed(seed))
    result = State(model, make_optimizer(model, Optimizer()), WeightAverage(model, 0.5))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        result.optimizer.step()
        result.average.update()
        result.iteration += 1
    return result


def same(a, b):
    x, y = a.tensors(), b.tensors()
    return x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)


def test_everything_comes_back(tmp_path):
    saved, other = state(), state(seed=1, steps=1)
    path = save_checkpoint(tmp_path, saved, {"a": [1]}, keep=2)
    assert not same(saved, other)
    load_checkpoint(path, other)
    assert same(saved, other)
    assert (other.iteration, other.average.updates) == (2, 2)
    assert checkpoints.read_record(path) == {"a": [1]}
    fresh = state(steps=0)  # which has no momentum yet
    load_checkpoint(path, fresh)
    assert same(saved, fresh)


def test_the_last_ones_are_kept(tmp_path):
    one = state(steps=0)
    for one.iteration in (5, 10, 15):
        save_checkpoint(tmp_path, one, {}, keep=2)
    names = ["iteration_00000015.safetensors", "iteration_00000010.safetensors"]
    assert [p.name for p in checkpoints.checkpoints_in(tmp_path)] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)


def full_disk(tensors, path, header):
    Path(path).write_bytes(b"half of it")
    raise OSError("No space left on device")


def test_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch):
    saved = state()
    before = save_checkpoint(tmp_path, saved, {}, keep=2)
    content = before.read_bytes()
    saved.iteration = 3
    monkeypatch.setattr(checkpoints, "write_safetensors", full_disk)
    with pytest.raises(OSError, match=r"00003.safetensors: .*No space left.*00002.*is whole"):
        save_checkpoint(tmp_path, saved, {}, keep=2)
    assert [p.name for p in tmp_path.iterdir()] == [before.name]
    assert before.read_bytes() == content


def test_a_run_goes_on_after_a_full_disk(tmp_path, monkeypatch):
    cases.register_tiny_net(monkeypatch)
    root = cases.write_shapes(tmp_path / "shapes", 4, 1)
    config = cases.config_of(root, schedule={"iterations": 6}, checkpoints={"every": 2})
    write, written = checkpoints.write_safetensors, []

    def third_fails(*arguments):
        written.append(arguments)
        (full_disk if len(written) == 2 else write)(*arguments)

    train(config, tmp_path / "whole")
    monkeypatch.setattr(checkpoints, "write_safetensors", third_fails)
    with pytest.raises(OSError, match="go on with --resume"):
        train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    a, b = cases.weights_of(tmp_path / "whole"), cases.weights_of(tmp_path / "run")
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("damage", ["cut off", "empty", "other"])
def test_damaged_checkpoints_are_passed_over(tmp_path, monkeypatch, capsys, damage):
    cases.register_tiny_net(monkeypatch)
    config = cases.config_of(tmp_path)
    record = {"config": config.model_dump(mode="json")}
    saved = state()
    save_checkpoint(tmp_path, saved, record, keep=3)
    saved.iteration = 3
    last = save_checkpoint(tmp_path, saved, record, keep=3)
    content = last.read_bytes()
    last.write_bytes({"cut off": content[:-10], "empty": b"", "other": b"x" * 100}[damage])
    fresh = state(seed=1)
    assert restore(tmp_path, fresh, config).name == "iteration_00000002.safetensors"
    assert re.search(r"00003.safetensors: no whole checkpoint.*: passed", capsys.readouterr().err)
    assert fresh.iteration == 2
    with pytest.raises(ValueError, match="no whole checkpoint"):
        load_checkpoint(last, fresh)


def test_a_checkpoint_of_another_net(tmp_path):
    path = save_checkpoint(tmp_path, state(), {}, keep=2)
    model = SmallNet(num_classes=5)
    other = State(model, make_optimizer(model, Optimizer()), None)
    before = {key: t.clone() for key, t in other.tensors().items()}
    with pytest.raises(ValueError, match="of another net"):
        load_checkpoint(path, other)
    assert all(torch.equal(t, before[key]) for key, t in other.tensors().items())


def test_nothing_is_unpickled():
    source = Path(checkpoints.__file__).parent
    text = "".join(path.read_text() for path in source.glob("*.py"))
    assert not re.search(r"torch\.(load|save)|import pickle|yaml\.load\b", text)


def test_shares():
    config = Config.model_validate(
        {"model": {"name": "a"}, "data": {"dataset": "voc"}, "batch": 10, "accumulate": 5}
    )
    check_shares(config, 2)
    with pytest.raises(ValueError, match="a multiple of accumulate 5 x 4 processes"):
        check_shares(config, 4)


@pytest.mark.parametrize(("gpus", "strategy"), [(0, "auto"), (1, "auto"), (2, "ddp")])
def test_one_gpu_is_one_process(monkeypatch, gpus, strategy):
    """Without the group of processes, in which no update could be recorded as a graph."""
    made = {}

    class Fabric(SimpleNamespace):
        def __init__(self, **arguments):
            made.update(arguments)
            super().__init__(world_size=arguments["devices"], launch=lambda: None)

    monkeypatch.setattr("lightning.fabric.Fabric", Fabric)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    make_fabric(Config.model_validate({"model": {"name": "a"}, "data": {"dataset": "voc"}}))
    assert (made["devices"], made["strategy"]) == (max(1, gpus), strategy)


def test_two_processes_train_as_one(tmp_path):
    """torchrun with gloo on the CPU: the same weights, order, figures and failures."""
    root = cases.write_shapes(tmp_path / "shapes", 8, 3)
    config = cases.config_of(
        root,
        model={"name": "deeplab_mobilenetv2_aspp", "options": {"output_stride": 16}},
        augmentation={"crop": 33, "scales": [0.5, 0.75]},
        accumulate=2,
        schedule={"iterations": 2, "head_first": {"iterations": 1}},
        loss={"at": "score map", "normalization": "batch"},
        optimizer={"lr": 2e-3, "clip": 1.0},  # at high rates, rounding grows beyond 1e-6
        ema=0.5,
        log_every=1,
    )
    (tmp_path / "c.yaml").write_text(dump_config(config))
    scripts = Path(sysconfig.get_path("scripts"))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone"]
    command = ["deeplab-native", "train", "c.yaml", "--out"]
    environment = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", *command, "two"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("mean IoU") == 1  # the first process speaks
    one = train(config, tmp_path / "one")
    a, b = cases.weights_of(tmp_path / "one"), cases.weights_of(tmp_path / "two")
    start = build_model(config, 4).state_dict()
    for key, tensor in a.items():
        torch.testing.assert_close(tensor, b[key], rtol=0, atol=1e-6)
    moved = [float((tensor - start[key]).abs().max()) for key, tensor in a.items()]
    assert sorted(moved)[len(moved) // 2] > 1e-5
    logs = [(tmp_path / name / "training.csv").read_text().split("\n") for name in ("one", "two")]
    losses = [[float(line.split(",")[1]) for line in log[1:4]] for log in logs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    found = (tmp_path / "two/validation.csv").read_text().split("\n")[1].split(",")
    assert float(found[1]) == pytest.approx(one.scores.mean_iou, abs=1e-3)
