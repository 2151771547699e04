"""Runs that are killed at any moment: the tool finds what is not whole, and there is nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trust.kill import _events

pytestmark = pytest.mark.skipif(
    _events.compiler() is None or sys.platform != "linux", reason="no C compiler, or not Linux"
)
ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys
with open("out/a.txt", "w") as file:
    file.write("whole")
os.rename("OUT/a.txt", "OUT/b.txt")
os.mkdir("OUT/c")
"""


def test_every_event_is_struck_before_and_within(tmp_path, monkeypatch):
    """What is there after a kill at each event of a script that does not care."""
    started = []
    monkeypatch.setattr(os, "execv", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    _events.begin_again("trust.kill", tmp_path)
    assert started and _events.is_there()
    control, out = _events.control(), tmp_path / "out"
    script = SCRIPT.replace("OUT", str(out)).replace("out/", f"{out}/", 1)

    def run():
        for path in sorted(out.rglob("*"), reverse=True) if out.exists() else ():
            path.rmdir() if path.is_dir() else path.unlink()
        out.mkdir(exist_ok=True)
        line = [sys.executable, "-S", "-E", "-c", script]
        done = subprocess.run(line, env=os.environ, start_new_session=True)
        return done.returncode, {p.name: p.is_file() and p.read_text() for p in out.iterdir()}

    control.watch(out)
    assert run() == (0, {"b.txt": "whole", "c": False})
    assert (control.count, control.writes()) == (4, {2})  # open, write, rename, mkdir
    for at, when, left in (
        (1, "before", {}),
        (1, "after", {"a.txt": ""}),
        (2, "before", {"a.txt": ""}),
        (2, "within", {"a.txt": "wh"}),
        (3, "before", {"a.txt": "whole"}),
        (4, "before", {"b.txt": "whole"}),
        (4, "after", {"b.txt": "whole", "c": False}),
    ):
        control.strike(out, at, when, signal.SIGKILL)
        assert run() == (-signal.SIGKILL, left)
        assert control.what
    control.rest()
    assert run()[0] == 0


@pytest.mark.parametrize(("kind", "events"), [("crf", 40), ("convert-weights", 80)])
def test_killed_and_begun_again_it_ends_as_if_undisturbed(tmp_path, kind, events):
    line = [sys.executable, "-m", "trust.kill", kind, "--kills", "3", "--processes", "0"]
    line += ["--events", str(events), "--results", str(tmp_path / "results")]
    done = subprocess.run(
        [*line, "--folder", str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").iterdir()
    found = json.loads(path.read_text())
    figures = found["figures"]
    assert path.stem == f"kill_{kind.replace('-', '_')}" and found["passed"]
    assert figures["random_moments"] >= 3
    assert figures["file_events_killed_at"] >= figures["file_events"] // events
    assert figures["restarts"] == figures["kills"] == sum(figures["signals"].values())
    assert figures["files_compared"] >= 2
    faults = ("not_whole", "refused", "different", "lost", "left_over", "done_again")
    assert all(figures[name] == 0 for name in faults)
