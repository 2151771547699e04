"""The command that trains the package's own net, also where pydantic is not."""

import argparse
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deeplab_native import weights
from deeplab_native.training import load_config, whole_config
from deeplab_native.training.config_file import read_config
from python_tests.training import training_cases as cases

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPT, CONFIG = EXPERIMENTS / "train_embedded.py", EXPERIMENTS / "embedded.yaml"
# the script, as __main__, in a process that has no such package
WITHOUT = """import runpy, sys
sys.modules["pydantic"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")"""


def test_no_value_is_left_out():
    """Read as it is, it means what it means when it is checked and filled up."""
    content = read_config(CONFIG)
    checked, whole = load_config(CONFIG), whole_config(content)
    assert json.loads(json.dumps(content)) == checked.model_dump(mode="json")
    assert whole.model_dump(mode="json") == checked.model_dump(mode="json")
    assert whole.iterations == checked.iterations
    assert whole.optimizer.trunk_weight.decay == checked.optimizer.trunk_weight.decay
    assert whole.data.options["label_map"] == checked.data.options["label_map"]


def run_script(out, root, *changes):
    options = [part for change in changes for part in ("--set", change)]
    command = [SCRIPT, root, "--out", out, *options]
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, *map(str, command)], capture_output=True, text=True
    )


def test_it_trains_evaluates_and_writes(tmp_path):
    root = cases.write_shapes(tmp_path / "shapes", 4, 2)
    names = [f"class {i}" for i in range(7)]  # as many as the package's net has
    (root / "classes.json").write_text(json.dumps(dict(enumerate(names))))
    changes = [
        "data.options={images: images, labels: labels}",
        "model.options={output_stride: 16}",
        "augmentation.crop=33",
        "schedule={iterations: 3, head_first: {iterations: 1}, warmup: 2}",
        "accelerator=cpu",
        "threads=1",
        "batch=2",
        "log_every=1",
    ]
    out = tmp_path / "run"
    done = run_script(out, root, *changes)
    assert done.returncode == 0, done.stderr
    assert "graph: needs CUDA" in done.stderr
    result = json.loads((out / "result.json").read_text())
    assert set(result["nets"]) == {"new", "package"}
    assert 0 <= result["nets"]["new"]["crf"]["mean_iou"] <= 100
    net = weights.load_model(out / weights.EMBEDDED.name)
    assert net.class_names == tuple(names)
    written = load_file(out / weights.EMBEDDED.name)
    assert {t.dtype for t in written.values()} == {torch.float16}
    assert len(result["images_per_second"]) == 4


def test_iterations_of_a_time(tmp_path, monkeypatch):
    """By the speed of first updates, once; a run that has begun keeps its number."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script adds the benchmarks
    script = runpy.run_path(str(SCRIPT), run_name="script")
    chosen = script["chosen_iterations"]
    trained = []

    def train(config, folder):
        trained.append(config)
        folder.mkdir(parents=True)
        rows = "10\n800\n"
        (folder / "training.csv").write_text(f"images_per_second\n{rows}")

    monkeypatch.setitem(chosen.__globals__, "train", train)
    args = argparse.Namespace(config=CONFIG, out=tmp_path / "run", minutes=5.0, first_updates=10)
    found = chosen(args, ["data.root=x"])
    (first,) = trained
    assert (first.iterations, first.log_every, first.data.val) == (10, 5, None)
    # 80 % of 300 s at 800 images/s, without a third of the 500 iterations of the head
    assert found == pytest.approx(240 * 800 / 16 - 500 / 3, abs=60)
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("schedule: {iterations: 7}")
    assert chosen(args, []) == 7
    args.minutes = None
    assert chosen(args, []) == 12000
    assert len(trained) == 1
