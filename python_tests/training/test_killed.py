"""Killed between the files that belong together, a run goes on to what it would have been."""

from __future__ import annotations

import csv
import os
import shutil

import pytest

from deeplab_native.training import loop, train
from deeplab_native.training.logs import CSVLog
from python_tests.training import training_cases as cases

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:lightning")
TIMED = "images_per_second"


@pytest.fixture
def config(tmp_path, monkeypatch, set_threads):
    cases.register_tiny_net(monkeypatch)
    return cases.config_of(
        cases.write_shapes(tmp_path / "shapes", 4, 2),
        schedule={"iterations": 7},
        validation={"every": 4, "pictures": 2},
        checkpoints={"every": 2},
        log_every=3,
    )


def told(run):
    """All that a run tells of itself, but for how long it took."""
    tables = {}
    for name in ("training.csv", "validation.csv"):
        with (run / name).open(newline="") as file:
            tables[name] = [
                {k: v for k, v in r.items() if k != TIMED} for r in csv.DictReader(file)
            ]
    files = [path for path in run.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return tables, sorted(str(path.relative_to(run)) for path in files)


@pytest.mark.parametrize("at", [1, 2])
def test_in_a_validation(config, tmp_path, monkeypatch, at):
    """Its checkpoint is there before: figures and pictures are made up for, and once alone."""
    train(config, tmp_path / "whole")
    validate, calls = loop.validate, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == at:
            raise KeyboardInterrupt
        return validate(*arguments, **options)

    monkeypatch.setattr(loop, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path / "run")
    outcome = train(config, tmp_path / "run", resume=True)
    assert outcome.scores is not None
    assert told(tmp_path / "run") == told(tmp_path / "whole")
    assert len(calls) == 3
    train(config, tmp_path / "run", resume=True)
    assert len(calls) == 3
    assert told(tmp_path / "run") == told(tmp_path / "whole")


def test_a_checkpoint_between_two_lines_of_the_logs(config, tmp_path, monkeypatch):
    """The mean of a line is of all its updates, those before the checkpoint, too."""
    train(config, tmp_path / "whole")
    update = loop.Loop._update

    def interrupted(self, *arguments):
        if self.state.iteration == 5:  # the last checkpoint is of 4, the line before it of 3
            raise KeyboardInterrupt
        update(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path / "run")
    train(config, tmp_path / "run", resume=True)
    assert told(tmp_path / "run") == told(tmp_path / "whole")


def test_what_a_kill_leaves_is_removed(config, tmp_path):
    train(config, tmp_path / "run")
    before = told(tmp_path / "run")
    for name in (
        "pictures/.a_00000004.0123456789ab.png",
        "checkpoints/.i.0123456789ab.safetensors",
    ):
        (tmp_path / "run" / name).write_bytes(b"half")
    checkpoints = tmp_path / "run/checkpoints"  # killed before the oldest one was removed
    shutil.copy(
        checkpoints / "iteration_00000006.safetensors",
        checkpoints / "iteration_00000002.safetensors",
    )
    train(config, tmp_path / "run", resume=True)
    assert told(tmp_path / "run") == before


@pytest.mark.parametrize("end", ["", "7,0.5", "7,0.50", "7"])
def test_a_row_that_was_cut_off_is_none(tmp_path, end):
    """Also where the columns are all there: of 0.5027 the first digits are a number, too."""
    path = tmp_path / "a.csv"
    path.write_text(f"iteration,loss\r\n3,0.25\r\n{end}")
    log = CSVLog(path, ("iteration", "loss"), 7)
    assert log.last == 3
    log.write((7, 0.5027))
    log.close()
    assert path.read_text().split() == ["iteration,loss", "3,0.25", "7,0.5027"]
    assert os.listdir(tmp_path) == ["a.csv"]
