"""The experiments that train a CRF run, on made-up data."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from python_tests.training import training_cases as cases

RUNS = {"potts", "matrix", "potts-iou"}
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def run_script(name, *arguments):
    command = [sys.executable, EXPERIMENTS / name, *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True)


def write_scores(folder):
    """Three photos of two halves, with score maps that know them nearly."""
    random = np.random.default_rng(0)
    for kind in ("images", "scores", "labels"):
        (folder / kind).mkdir(parents=True)
    names = [f"p{i}" for i in range(3)]
    for name in names:
        labels = np.zeros((30, 40), np.uint8)
        labels[:, 18:] = 8
        labels[:, 18] = 255
        image = (60 + 10 * labels[..., None] + random.integers(0, 9, (30, 40, 3))).astype(np.uint8)
        logits = random.integers(100, 120, (33, 33, 21)).astype(np.uint8)
        logits[:, :1, 0] = 140
        logits[:, 1:, 8] = 140
        Image.fromarray(labels).save(folder / "labels" / f"{name}.png")
        Image.fromarray(image).save(folder / "images" / f"{name}.jpg")
        np.savez(
            folder / "scores" / f"{name}.npz", hw=(30, 40), logits_q=logits, zero=100, scale=0.1
        )
    (folder / "ids.txt").write_text("\n".join(names))
    return folder


def test_learning_on_scores(tmp_path):
    folder = write_scores(tmp_path / "scores")
    out = tmp_path / "result.json"
    settings = ("--epochs", 3, "--batch", 1, "--stride", 2, "--workers", 1)
    done = run_script("learn_crf.py", folder, "--json", out, *settings)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert set(result["learned"]) == RUNS
    for run in result["learned"].values():
        assert run["updates"] == 3
        first, *_, last = run["epochs"]
        assert all(first[n] != last[n] > 0 for n in ("w1", "sigma_alpha", "sigma_beta"))
    assert np.shape(result["learned"]["matrix"]["params"]["w1"]) == (21, 21)
    assert result["images"] == {"learned on": 1, "others": 2}
    assert set(result["figures"]) == RUNS
    assert set(result["loss_of_others"]) == {"start", *RUNS}


def test_fine_tuning_through_the_crf(tmp_path):
    root = cases.write_shapes(tmp_path / "shapes", 4, 2)
    (root / "images").rename(root / "JPEGImages")
    out = tmp_path / "result.json"
    settings = ("--updates", 2, "--batch", 1, "--crop", 65, "--seeds", 1, "--threads", 1)
    done = run_script("finetune_through_crf.py", root, "--json", out, *settings)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())["results"]
    assert set(results) == {"package", "through the CRF, seed 1", "cross-entropy, seed 1"}
    through = results["through the CRF, seed 1"]
    assert through["updates"] == results["cross-entropy, seed 1"]["updates"] == 2
    assert set(through["mean_iou"]) == {"scores", "package", "learned"}
    assert through["params"]["w1"] != pytest.approx(5, abs=1e-4)
    assert through["params"]["sigma_gamma"] == 3
