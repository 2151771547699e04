"""`deeplab-native evaluate` again: what is counted before, with which settings, of which files."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from python_tests.cli.cli_cases import fails
from python_tests.cli.evaluate_cases import (
    CLASSES,
    count,
    evaluate,
    record,
    scores_of,
)
from python_tests.data.dataset_cases import draw, folder

pytestmark = pytest.mark.usefixtures("quick_workers")


def test_other_settings_are_not_mixed(shapes, run):
    assert evaluate(run, "--iterations", 1).code == 0
    before = record()
    fails(evaluate(run), "made with other settings", '"iterations": 1', "--overwrite")
    fails(evaluate(run, "--iterations", 1, "--trimap", "none"), '"boundary", now null')
    assert record() == before
    assert evaluate(run, "--overwrite").code == 0
    assert record()["variants"] != before["variants"]


def test_changed_files_are_counted_anew(shapes, run):
    assert evaluate(run, "--no-crf").code == 0
    assert "4 images counted before" in evaluate(run, "--no-crf").out
    np.save("scores/b.npy", scores_of(1)[::-1])
    result = evaluate(run, "--no-crf")
    assert "3 images counted before" in result.out
    pairs = [(draw(i, range(CLASSES))[1], scores_of(i).argmax(0)) for i in range(4)]
    pairs[1] = (pairs[1][0], scores_of(1)[::-1].argmax(0))
    assert record()["variants"]["scores"]["confusion_matrix"] == count(pairs).tolist()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_resume_after_an_interruption(shapes, run, how):
    """The command in a process of its own, stopped in the middle, counts nothing twice."""
    names = [f"i{i:02}" for i in range(12)]
    folder(shapes / "many", names)
    Path("logits").mkdir()
    for number, name in enumerate(names):
        np.save(f"logits/{name}.npy", scores_of(number))
    args = ["evaluate", "folder", "many", "--scores", "logits", "--iterations", "3000"]
    code = (  # Ctrl-C is heard, also where the tests run in the background
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from deeplab_native.cli.main import main; main()"
    )
    line = [sys.executable, "-c", code, *args, "--out", "out", "--workers", "1"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: counted() >= 2)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    assert 2 <= counted() < 12 and not Path("out/evaluation.json").exists()
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "of 12 images are counted; the same command goes on" in err
        assert "Traceback" not in err
    result = run(*args, "--out", "out")
    assert result.code == 0 and " 0 images counted before" not in result.out
    found = record()["variants"]
    truth = [draw(i, range(CLASSES))[1] for i in range(12)]
    matrix = count([(truth[i], scores_of(i).argmax(0)) for i in range(12)])
    assert found["scores"]["confusion_matrix"] == matrix.tolist()
    assert np.sum(found["scores + CRF"]["confusion_matrix"]) == matrix.sum()


def counted():
    if not Path("out/counts.sqlite").exists():
        return 0
    database = sqlite3.connect("file:out/counts.sqlite?mode=ro", uri=True, timeout=30)
    try:
        return database.execute("SELECT COUNT(DISTINCT image) FROM counts").fetchone()[0]
    except sqlite3.OperationalError:  # not yet
        return 0
    finally:
        database.close()


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
