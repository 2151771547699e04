"""What is run and killed: inputs, small enough to be worked off many times, and commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml

from deeplab_native.weights import EMBEDDED
from python_tests.jobs.cases import write_folders
from python_tests.jobs.ray_cases import write_folder
from python_tests.training import training_cases

from ._attempts import Commands
from ._ray import ADDRESS

_CRF = ("--w1", "3", "--sigma-alpha", "9", "--sigma-beta", "20", "--w2", "1", "--sigma-gamma", "2")
_HERE = ("--workers", "0", "--threads", "1")
_POOL = ("--workers", "2", "--threads", "1")


class Kind(NamedTuple):
    """A command that is to survive.

    Attributes:
        prepare: writes its inputs to a folder.
        goes_on: whether the death of a worker does not end it.
        commands: of a folder of inputs and one of results, in turn, as a script would run them;
            `processes`: whether with worker processes.
    """

    prepare: Callable[[Path], None]
    commands: Callable[[Path, Path, bool], Commands]
    goes_on: bool = False


def _jobs(given: Path) -> None:
    given.mkdir()
    write_folders(given)


def _evaluate(given: Path, out: Path, processes: bool) -> Commands:
    how = ("--scores", f"{given}/scores", *_CRF, *_how(processes))
    return [("evaluate", "folder", f"{given}", "-o", f"{out}/evaluation", *how)]


def _crf(given: Path, out: Path, processes: bool) -> Commands:
    files = ("--save-probabilities", f"{out}/q", "--overlay")
    one = (f"{given}/images/0.png", f"{given}/labels/0.png", "-o", f"{out}/one.png")
    return [
        ("crf", f"{given}/images", f"{given}/scores", "-o", f"{out}/labels",
         *files, *_CRF, *_how(processes)),
        ("crf", *one, *_CRF, "--threads", "1"),
    ]  # fmt: skip


def _segment(given: Path, out: Path, processes: bool) -> Commands:
    scores = ("--save-scores", f"{out}/scores")
    return [
        ("segment", f"{given}/images", "-o", f"{out}/labels", *scores, *_how(processes)),
        ("segment", f"{given}/images/0.png", "-o", f"{out}/one", "--threads", "1"),
    ]


def _search(given: Path, out: Path, processes: bool) -> Commands:
    grid = ("--w1", "3,5", "--sigma-alpha", "9", "--sigma-beta", "8,20", "--rounds", "1")
    folders = (f"{given}/images", f"{given}/scores", f"{given}/labels")
    how = ("--iterations", "3", *_how(processes))
    return [("crf-search", *folders, "-o", f"{out}/search", *grid, *how)]


def _weights(given: Path) -> None:
    given.mkdir()
    shutil.copy(EMBEDDED, given / "net.safetensors")


def _convert(given: Path, out: Path, processes: bool) -> Commands:
    net = f"{out}/net.safetensors"
    return [
        ("convert-weights", f"{given}/net.safetensors", "-o", net, "--palette", "voc"),
        ("convert-weights", net, "-o", f"{out}/again.safetensors", "--crf", "voc-resnet101"),
    ]


def _shapes(given: Path) -> None:
    training_cases.write_shapes(given, 8, 3)
    config = training_cases.config_of(
        given,
        schedule={"iterations": 18},
        validation={"every": 8, "pictures": 2},
        checkpoints={"every": 4},
        log_every=3,
        ema=0.9,
    )
    content = config.model_dump(mode="json")
    content["data"]["workers"] = 1
    (given / "config.yaml").write_text(yaml.safe_dump(content))


def _train(given: Path, out: Path, processes: bool) -> Commands:
    return [("train", f"{given}/config.yaml", "-o", f"{out}/run", "--resume")]


def _photos(given: Path) -> None:
    shapes = given.with_name("shapes")
    training_cases.write_shapes(shapes, 6, 2)
    given.mkdir()
    for part in ("images", "labels"):
        shutil.copytree(shapes / part, given / part)
    shutil.rmtree(shapes)


def _train_folder(given: Path, out: Path, processes: bool) -> Commands:
    changes = ("schedule.iterations=6", "batch=2", "checkpoints.every=2", "validation.every=3")
    set_ = tuple(word for change in changes for word in ("--set", change))
    how = ("--longest-side", "48", "--threads", "1", "--device", "cpu", "--resume")
    return [("train", f"{given}", "-o", f"{out}/run", *set_, *how)]


def _how(processes: bool) -> tuple[str, ...]:
    return _POOL if processes else _HERE


def write_photos(given: Path) -> None:
    """Eight photographs, for a cluster."""
    write_folder(given, 8)


def _ray(given: Path, out: Path, processes: bool) -> Commands:
    how = ("--workers", "1", "--shard-images", "1")
    return [("segment", f"{given}", "-o", f"{out}/labels", "--ray", os.environ[ADDRESS], *how)]


KINDS = {
    "evaluate": Kind(_jobs, _evaluate),
    "crf": Kind(_jobs, _crf),
    "segment": Kind(_jobs, _segment),
    "crf-search": Kind(_jobs, _search),
    "convert-weights": Kind(_weights, _convert),
    "training": Kind(_shapes, _train),
    "train-folder": Kind(_photos, _train_folder),
    "ray": Kind(write_photos, _ray, goes_on=True),
}
