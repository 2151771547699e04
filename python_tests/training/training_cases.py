"""A drawn data set and a tiny net, for the tests of training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from deeplab_native.models import base, registry
from deeplab_native.training import Config, check_config

SIZE, CLASSES = 64, 4
COLOURS = np.array([(40, 40, 40), (200, 60, 60), (60, 200, 60), (60, 60, 200)])


def draw(number: int) -> tuple[np.ndarray, np.ndarray]:
    """(64, 64, 3) uint8 photograph and its labels: disc, square and triangle."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.uint8)
    places = random.permutation([(16, 18), (46, 16), (30, 46)])
    for label, (cx, cy) in enumerate(places, start=1):
        cx, cy = cx + random.integers(-3, 4), cy + random.integers(-3, 4)
        inside = (
            (x - cx) ** 2 + (y - cy) ** 2 < 150,
            np.maximum(abs(x - cx), abs(y - cy)) < 12,
            (y < cy + 12) & (abs(x - cx) * 2 < y - cy + 14),
        )[label - 1]
        labels[inside] = label
    photo = COLOURS[labels] + random.integers(-30, 31, (SIZE, SIZE, 3))
    return np.clip(photo, 0, 255).astype(np.uint8), labels


def write_shapes(root: Path, train: int = 16, val: int = 6) -> Path:
    """A data set for `folder`: images/, labels/, classes.json, train.txt and val.txt."""
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for number in range(train + val):
        photo, labels = draw(number)
        Image.fromarray(photo).save(root / f"images/{number:02d}.png")
        Image.fromarray(labels).save(root / f"labels/{number:02d}.png")
    names = ("background", "disc", "square", "triangle")
    (root / "classes.json").write_text(json.dumps(dict(enumerate(names))))
    (root / "train.txt").write_text("".join(f"{i:02d}\n" for i in range(train)))
    (root / "val.txt").write_text("".join(f"{i:02d}\n" for i in range(train, train + val)))
    return root


class TinyNet(base.DeepLab):
    """Stride 4, three convolutions and a dropout; a second's training learns the shapes."""

    output_stride = 4

    def __init__(self, num_classes: int, *, name: str) -> None:
        super().__init__(name, num_classes)
        self.conv1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Conv2d(24, num_classes, 3, padding=1)

    def classifiers(self):
        return [self.fc]

    def score_map(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.conv1(x / 64).relu()).relu()
        return self.fc(self.dropout(x))


def register_tiny_net(monkeypatch) -> None:
    """`create_model("tiny")`, for a test."""
    info = registry.ModelInfo("tiny", 0, 4, "not in the paper", TinyNet)
    monkeypatch.setitem(registry._MODELS, "tiny", info)


def config_of(root: Path, **changes) -> Config:
    """40 iterations on the shapes; `changes` are whole sections, or keys of the top."""
    content = {
        "model": {"name": "tiny"},
        "data": {"dataset": "folder", "root": str(root)},
        "augmentation": {"crop": 65, "scales": [0.75, 1.0, 1.25]},
        "batch": 4,
        "schedule": {"iterations": 40},
        "optimizer": {
            "lr": 0.05,
            "clip": 1.0,
            "classifier_weight": {"lr": 1, "decay": 1},
            "classifier_bias": {"lr": 2, "decay": 0},
        },
        "loss": {"at": "input"},
        "validation": {"every": None, "pictures": 1},
        "checkpoints": {"every": 1000},
        "log_every": 10,
        "accelerator": "cpu",
        "threads": 1,  # of a tiny net, more wait for each other
    }
    return check_config(content | changes)


def weights_of(out: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "net.safetensors")
