"""What users expect of every command line: -m, completion, colours, logs, exit codes."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from deeplab_native import __version__
from deeplab_native._logging import ROOT
from deeplab_native.cli import console, main

MODULE = [sys.executable, "-m", "deeplab_native"]
HEAVY = {"torch", "numpy", "PIL", "matplotlib"}
ASK_FOR_COLOURS = {"NO_COLOR", "FORCE_COLOR", "TERM", "GITHUB_ACTIONS", "PY_COLORS"}


def completes(shell: str, line: str) -> list[str]:
    """What the shell is given for the last word of a command line."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
    }[shell]
    environment = {**os.environ, "_DEEPLAB_NATIVE_COMPLETE": f"complete_{shell}", **asked}
    code = (
        "import sys; from deeplab_native.cli.main import main\n"
        "try: main()\n"
        "finally: assert not {*sys.argv[1:]} & {*sys.modules}"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *HEAVY], env=environment, capture_output=True, text=True
    )
    assert done.stderr == ""
    if shell == "bash":
        return done.stdout.split()
    return re.findall(r'^"?([\w-]+)"?(?::|$)', done.stdout.replace("((", "\n"), re.MULTILINE)


@pytest.fixture
def start(tmp_path):
    """Runs `python -m deeplab_native ARGS` in an empty folder, with variables."""

    def call(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | variables
        return subprocess.run(
            [*MODULE, *args], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return call


@pytest.fixture
def no_log():
    """What `-v` sets is undone after the test."""
    package = logging.getLogger(ROOT)
    level, handlers = package.level, [*package.handlers]
    yield package
    package.setLevel(level)
    package.handlers[:] = handlers


def test_as_a_module(start):
    done = start("--version")
    assert (done.returncode, done.stdout) == (0, f"deeplab-native {__version__}\n")


def test_as_a_module_with_worker_processes(given, tmp_path):
    for folder, file in (("photos", "photo.png"), ("scores", "logits.npy")):
        Path(folder).mkdir()
        for name in "ab":
            shutil.copy(file, f"{folder}/{name}{Path(file).suffix}")
    args = ["crf", "photos", "scores", "-o", "out", "--workers", "2", "--iterations", "1"]
    done = subprocess.run([*MODULE, *args], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {"a.png", "b.png"} <= {path.name for path in Path("out").iterdir()}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell):
    assert {"crf", "crf-search"} <= {*completes(shell, "deeplab-native cr")}
    assert "--sigma-alpha" in completes(shell, "deeplab-native crf --sigma-a")
    assert "--debug" in completes(shell, "deeplab-native --de")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_for_the_shell(start, shell, tmp_path):
    """It is one that the shell runs, and that asks this program."""
    done = start("--help", _DEEPLAB_NATIVE_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert f"complete_{shell}" in done.stdout
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} to run the script")
    script = tmp_path / "completion"
    # in a shell that is not interactive, zsh has no compdef before compinit
    before = "autoload -U compinit && compinit -u -D\n" if shell == "zsh" else ""
    after = {"bash": "complete -p deeplab-native", "zsh": "print $_comps[deeplab-native]"}[shell]
    script.write_text(f"{before}{done.stdout}\n{after}\n")
    ran = subprocess.run(
        [shell, "-f" if shell == "zsh" else "--norc", script], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "_deeplab_native_completion" in ran.stdout


def test_bash_completes(start, tmp_path):
    """The whole way: the function that bash calls asks the program, and gives what it says."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    program = tmp_path / "deeplab-native"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m deeplab_native "$@"\n')
    program.chmod(0o755)
    script = start("--help", _DEEPLAB_NATIVE_COMPLETE="source_bash").stdout
    ask = (
        "COMP_WORDS=(deeplab-native seg); COMP_CWORD=1; _deeplab_native_completion deeplab-native\n"
        'echo "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", f"{script}\n{ask}"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("segment\n", "")


# what typer prints, a usage error, and what the commands do
PRINTS = "from deeplab_native.cli import console; console.out.print(console.facts(('red', 'blue')))"
COLOURED = [[*MODULE, "crf"], [sys.executable, "-c", PRINTS]]
COLOUR = re.compile(r"(?<!\d)(3[0-8]|4[0-8]|9\d|10\d)(?!\d)")


@pytest.mark.parametrize("command", COLOURED, ids=["usage", "table"])
def test_colours(command):
    """None into a pipe, nor with NO_COLOR, even where FORCE_COLOR asks for styles."""

    def styles(**variables: str) -> list[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ASK_FOR_COLOURS}
        done = subprocess.run(command, env=environment | variables, capture_output=True, text=True)
        return re.findall(r"\x1b\[([\d;]*)m", done.stdout + done.stderr)

    assert styles(TERM="xterm-256color") == []
    assert styles(FORCE_COLOR="1", TERM="xterm-256color")
    plain = styles(FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color")
    assert not [style for style in plain if COLOUR.search(style)]


def test_forced_colours_do_not_move_a_pipe(given, run, monkeypatch):
    """FORCE_COLOR, as CI sets it, makes no spinners and bars in a file."""
    monkeypatch.setattr(console.err, "_force_terminal", True)
    assert run("crf", "photo.png", "logits.npy", "--iterations", "1").err == ""


def test_the_library_says_nothing_by_itself():
    code = (
        "import logging, sys; from deeplab_native._logging import logger\n"
        "logger('deeplab_native.jobs').error('unseen'); print(logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("option", [[], ["-v"], ["--verbose"], ["-vv"], ["-v", "-v"]], ids=str)
def test_verbose(given, run, no_log, option):
    Path("photos").mkdir()
    Path("scores").mkdir()
    shutil.copy("photo.png", "photos/a.png")
    shutil.copy("logits.npy", "scores/a.npy")
    args = ["crf", "photos", "scores", "-o", "out", "--workers", "0", "--iterations", "1"]
    result = run(*args, *option)
    assert result.code == 0
    assert ("info: images: 1, device: cpu, worker processes: 0" in result.err) is bool(option)
    assert ("debug: refine: a.png done" in result.err) is (option in (["-vv"], ["-v", "-v"]))
    assert "info" not in result.out


@pytest.mark.filterwarnings("always")
def test_a_warning_is_a_line(run, monkeypatch):
    (command,) = [c for c in main.app.registered_commands if c.name == "info"]
    monkeypatch.setattr(command, "callback", lambda: warnings.warn("low sky", stacklevel=1))
    assert run("info").err == "warning: low sky\n"


def test_exit_codes(run, given):
    """As docs/command_line.md says: 0, 1, 2."""
    assert run("--version").code == 0
    assert run("crf", "missing.png", "logits.npy").code == 1
    assert run("crf", "--nothing").code == 2


def test_ctrl_c_is_130(given):
    """While it works, not only while Python starts."""
    for folder, file in (("photos", "photo.png"), ("scores", "logits.npy")):
        Path(folder).mkdir()
        for i in range(400):
            os.link(file, f"{folder}/{i}{Path(file).suffix}")
    args = ["crf", "photos", "scores", "-o", "out", "--workers", "0", "-vv", "--threads", "1"]
    with subprocess.Popen([*MODULE, *args], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "done" in line:
                process.send_signal(signal.SIGINT)
                break
        process.stderr.read()
        assert process.wait() == 130
