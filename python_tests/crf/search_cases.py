"""Images whose labels a CRF with known parameters made of noisy scores, for the search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deeplab_native import CRFParams, dense_crf
from deeplab_native.crf.candidates import Sample
from deeplab_native.crf.search import Candidate

LABELS = 4
PLANTED = Candidate(5.0, 12.5, 10.0)
W2, SIGMA_GAMMA = 3.0, 3.0
IMAGES = 3
SMALL = ["--w1", "3,5", "--sigma-alpha", "10", "--sigma-beta", "8,12", "--rounds", "0"]


def planted(number: int, height: int = 36, width: int = 45) -> tuple[Sample, np.ndarray]:
    """A noisy picture of discs, and its logits (L, H, W); the labels are of PLANTED."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    truth = np.zeros((height, width), int)
    for label in range(1, LABELS):
        cy, cx, radius = (
            random.integers(8, height - 8),
            random.integers(8, width - 8),
            6 + label * 2,
        )
        truth[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = label
    colours = random.integers(40, 216, (LABELS, 3))
    photo = np.clip(colours[truth] + random.normal(0, 14, (height, width, 3)), 0, 255)
    logits = np.eye(LABELS)[truth] * 1.5 + random.normal(0, 1.8, (height, width, LABELS))
    logits = np.ascontiguousarray(logits.transpose(2, 0, 1), np.float32)
    unary = -torch.from_numpy(logits)[None].log_softmax(1)
    image = torch.from_numpy(photo.astype(np.uint8)).permute(2, 0, 1)[None].contiguous()
    q = dense_crf(unary, image, CRFParams(*PLANTED, W2, SIGMA_GAMMA))
    return Sample(unary, image, q.argmax(1).to(torch.uint8)), logits


def write_one(i: int, height: int) -> None:
    """Image i in photos/, scores/ and labels/."""
    sample, logits = planted(i, height)
    Image.fromarray(sample.image[0].permute(1, 2, 0).numpy()).save(f"photos/{i}.png")
    np.save(f"scores/{i}.npy", logits)
    Image.fromarray(sample.labels[0].numpy()).save(f"labels/{i}.png")


def write_folders() -> None:
    """photos/, scores/ and labels/ of IMAGES images of different heights, here."""
    for folder in ("photos", "scores", "labels"):
        Path(folder).mkdir()
    for i in range(IMAGES):
        write_one(i, 36 + i)


def search(run, *args):
    return run("crf-search", "photos", "scores", "labels", "--out", "out", *args)


def best():
    return json.loads(Path("out/best.json").read_text())
