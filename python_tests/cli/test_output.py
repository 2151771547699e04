"""Standard output that cannot be written, or that nobody reads: one line or none, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from deeplab_native.cli.errors import of_output

COMMAND = [sys.executable, "-m", "deeplab_native"]
FULL = Path("/dev/full")
SAID = "error: standard output: No space left on device (make room on the disk, or write elsewhere)"


def run(*arguments: str, stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=300
    )


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["crf", "--help"], ["info", "--json"]])
def test_a_full_disk(arguments):
    """Of what is printed by Typer, by us at once, and by Python at its end."""
    with FULL.open("wb") as full:
        done = run(*arguments, stdout=full.fileno())
    assert (done.returncode, done.stderr) == (1, f"{SAID}\n")


@pytest.mark.parametrize("arguments", [["--version"], ["crf", "--help"]])
def test_nobody_reads(arguments):
    reads, writes = os.pipe()
    os.close(reads)  # as `| head` does, sooner or later
    done = run(*arguments, stdout=writes)
    os.close(writes)
    assert (done.returncode, done.stderr) == (1, "")


def test_what_another_file_has_is_not_of_standard_output():
    """A log of a training run, whose name its error lacks: no name is better than a wrong one."""
    try:
        os.write(os.open("/dev/null", os.O_RDONLY), b"x")
    except OSError as error:
        assert of_output(error) is error
        assert error.filename is None


def test_closed():
    """`>&-`"""
    done = subprocess.run(
        [sys.executable, "-m", "deeplab_native", "--version"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(os.close, 1),
    )
    assert (done.returncode, done.stderr) == (0, "")
