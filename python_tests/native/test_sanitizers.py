"""The sanitizers of the native module's build find what is planted, and nothing where nothing is.

planted.cpp is built as the module is, and runs in a Python of its own, as the sanitized tests do.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from python_tests import sanitizers
from python_tests.native import sanitize

TESTS_LEFT_OUT = [name for name in sanitize.LEFT_OUT if "::" in name]
RACES = ["neighbours", "copies", "vectors", "long_vectors", "calls"]
MEMORY = {
    "behind_buffer": "use-after-poison",
    "behind_kept": "use-after-poison",
    "kept": "use-after-poison",
    "behind_vector": "container-overflow",
    "cast": "is outside the range of representable values of type 'int'",
    "null_memset": "null pointer passed as argument 1",
}

# what a thread of Python does; "threads": twice at once; "forked": in a child; "forked_late": in
# that of a process that has threads
PROGRAM = """
import ctypes, os, sys, threading
name, bug, way = sys.argv[2].encode(), int(sys.argv[3]), sys.argv[4]
planted = ctypes.CDLL(sys.argv[1])
def call():
    start.wait()
    assert planted.run_planted(name, bool(bug)) == 0
start = threading.Barrier(2 if way == "threads" else 1)
if way.startswith("forked"):
    if way == "forked_late":
        planted.run_planted(name, False)
    child = os.fork()
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)
threads = [threading.Thread(target=call) for _ in range(start.parties)]
[t.start() for t in threads]
[t.join() for t in threads]
if way == "leaks":
    ctypes.CDLL(None).__lsan_do_recoverable_leak_check()
os._exit(0)
"""


class Planted:
    """Runs a function of planted.cpp under a sanitizer."""

    def __init__(self, sanitizer: str) -> None:
        self.sanitizer = sanitizer
        try:
            sanitizers.check(sanitizer)
        except sanitizers.UnavailableError as error:
            pytest.skip(f"no {sanitizer} sanitizer: {error}")
        self._library = sanitize.build_module(sanitizer, target="planted")

    def run(self, name: str, *, bug: bool, way: str = "once") -> tuple[int, str]:
        """The exit status and stderr."""
        more = {
            "thread": ("halt_on_error=1",),
            "address": ("detect_leaks=1", "leak_check_at_exit=0"),
        }
        done = subprocess.run(
            [
                *sanitizers.command(self.sanitizer),
                *("-c", PROGRAM, str(self._library), name, str(int(bug)), way),
            ],
            env={
                **sanitizers.environment(self.sanitizer, more=more[self.sanitizer]),
                "PYTHONPATH": str(sanitize.HERE / "instrumented"),
            },
            capture_output=True,
            text=True,
            timeout=300,
        )
        return done.returncode, done.stderr


@pytest.mark.parametrize("name", TESTS_LEFT_OUT)
def test_what_is_left_out_does_not_run(name):
    file = name.split("::")[0]
    asked = [
        *("--collect-only", "-p", "no:cacheprovider", "-n", "0"),
        *sanitize.arguments_of("thread", ["--all"])[:-1],
    ]
    collect = [sys.executable, "-m", "pytest", *asked, sanitize.TESTS / file]
    # not with this run's options: it would write this run's report
    alone = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    done = subprocess.run(collect, cwd=sanitize.ROOT, env=alone, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{file}::" in done.stdout
    assert f"{name}\n" not in done.stdout
    assert f"{name}[" not in done.stdout


@pytest.mark.parametrize("name", sanitize.LEFT_OUT)
def test_what_is_left_out_is_there(name):
    file, _, function = name.partition("::")
    assert (sanitize.TESTS / file).exists()
    assert not function or f"def {function}(" in (sanitize.TESTS / file).read_text()


@pytest.fixture(scope="module")
def address() -> Planted:
    return Planted("address")


@pytest.fixture(scope="module")
def thread() -> Planted:
    return Planted("thread")


def way_of(name: str) -> str:
    return "threads" if name == "calls" else "once"


@pytest.mark.parametrize("name", RACES)
def test_races_are_found(name, thread):
    status, report = thread.run(name, bug=True, way=way_of(name))
    assert status != 0
    assert "data race" in report
    assert "planted.cpp" in report
    assert thread.run(name, bug=False, way=way_of(name)) == (0, "")


def test_a_race_in_a_forked_child_is_found(thread):
    status, report = thread.run("neighbours", bug=True, way="forked")
    assert status != 0
    assert "data race" in report
    assert thread.run("neighbours", bug=False, way="forked") == (0, "")


def test_a_child_of_a_process_with_threads_has_threads_too(thread):
    """It runs; TSan looks away in it, since it does not know what the threads did at the fork."""
    assert thread.run("neighbours", bug=False, way="forked_late") == (0, "")


@pytest.mark.parametrize("name", MEMORY)
def test_faults_of_memory_and_undefined_behaviour_are_found(name, address):
    status, report = address.run(name, bug=True)
    assert status != 0
    assert MEMORY[name] in report
    assert "planted.cpp" in report
    assert address.run(name, bug=False) == (0, "")


def test_leaks_of_the_module_are_found_and_others_are_not_ours(address):
    status, report = address.run("leak", bug=True, way="leaks")
    if "has encountered a fatal error" in report:
        pytest.skip("LeakSanitizer may not look at the process")
    leaks = sanitize.leaks_in(report, "/planted.")
    assert status == 0
    assert len(leaks) == 1
    assert "49380 byte(s)" in leaks[0]
    assert sanitize.leaks_in(address.run("leak", bug=False, way="leaks")[1], "/planted.") == []
