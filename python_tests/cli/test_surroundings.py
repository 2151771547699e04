"""What surrounds a command: no home, no temporary folder, limits, locales, a closed output."""

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

NAME = "phöto.png"


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / NAME)
    Image.fromarray(np.uint8(255) * np.eye(40, 50, dtype=np.uint8)).save(tmp_path / "mask.png")
    return tmp_path


def crf(folder, *, limit=None, closed=False, without=(), **variables):
    """`deeplab-native crf` of the photograph; limit: of a resource, as setrlimit takes it."""
    environment = {k: v for k, v in os.environ.items() if k not in without} | variables

    def prepare():
        if limit:
            resource.setrlimit(*limit)
        if closed:
            os.close(1)

    return subprocess.run(
        [sys.executable, "-m", "deeplab_native", "crf", NAME, "mask.png"],
        cwd=folder, env=environment, preexec_fn=prepare, capture_output=True, text=True,
        encoding="utf-8",
    )  # fmt: skip


WORKS = {
    "no home": {"without": ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")},
    "a home that is none": {"HOME": "/dev/null", "without": ("XDG_CACHE_HOME", "MPLCONFIGDIR")},
    "no folder for temporary files": {"TMPDIR": "/nowhere"},
    "a locale without umlauts": {
        "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    },
    "a dozen open files": {"limit": (resource.RLIMIT_NOFILE, (12, 12))},
    "nobody to print to": {"closed": True},
}  # fmt: skip


@pytest.mark.parametrize("case", WORKS)
def test_it_works(photo, case):
    before = {path.name for path in photo.iterdir()}
    done = crf(photo, **WORKS[case])
    assert (done.returncode, done.stderr) == (0, "")
    made = {path.name for path in photo.iterdir()} - before
    assert made == {"phöto_crf.png", "phöto_crf_overlay.png"}
    with Image.open(photo / "phöto_crf.png") as refined:
        assert refined.size == (50, 40)


def test_a_limit_of_files_is_said(photo):
    """Of their size: the system's signal would end the process without a word."""
    before = {path.name for path in photo.iterdir()}
    done = crf(photo, limit=(resource.RLIMIT_FSIZE, (64, 64)))
    assert done.returncode == 1
    assert "File too large" in done.stderr and "ulimit -f" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in photo.iterdir()} == before
