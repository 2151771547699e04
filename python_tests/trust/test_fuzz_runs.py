"""A run of the fuzzer over the readers: its corpus, its record, its findings."""

import json
import sys
from pathlib import Path

import pytest

from trust import fuzz_readers
from trust.fuzzing.corpus import read_corpus, unpack, write_corpus
from trust.fuzzing.libfuzzer import Finished


def test_corpus_is_kept(tmp_path):
    files = [b"abc", b"", b"\xff\x00", b"abc"]
    path = write_corpus("some", files, tmp_path)
    assert read_corpus("some", tmp_path) == [b"", b"\xff\x00", b"abc"]
    assert len(path.read_text().splitlines()) == 3
    assert read_corpus("other", tmp_path) == []
    unpack(files, tmp_path / "files")
    assert sorted(f.read_bytes() for f in (tmp_path / "files").iterdir()) == [
        b"",
        b"abc",
        b"\xff\x00",
    ]


@pytest.fixture
def fuzz(monkeypatch, tmp_path):
    """`main` with another libFuzzer, and the result that it wrote."""

    def call(*arguments, artifacts=(), executions=7):
        asked = []

        def run(target, corpus, scratch, runs, seconds):
            asked.append((runs, len(list(Path(corpus).iterdir()))))
            return Finished(executions, 3, 4, 5, 100, 2048, 0.5, 2.0, list(artifacts))

        monkeypatch.setattr(fuzz_readers, "run", run)
        monkeypatch.setattr(fuzz_readers, "find_spec", lambda name: True)
        code = fuzz_readers.main([*arguments, "--results", str(tmp_path)])
        result = json.loads((tmp_path / f"fuzz_{arguments[0]}.json").read_text())
        return code, asked[0], result

    return call


def test_runs_add_up_while_the_code_is_the_same(fuzz, monkeypatch):
    assert fuzz("classes")[1][0] == 1_000_000
    code, (runs, seeds), result = fuzz("classes")
    assert (code, runs, seeds > 2) == (0, 1_000_000 - 7, True)
    figures = result["figures"]
    assert (figures["executions"], figures["processor_seconds"]) == (14, 4)
    assert [run["executions"] for run in figures["runs"]] == [7, 7]
    assert figures["largest_memory_kb"] == 2 and figures["slowest_ms"] == 500
    monkeypatch.setattr(fuzz_readers, "source_digest", lambda target: "other")
    assert fuzz("classes", "--executions", "9")[2]["figures"]["executions"] == 7


def test_a_finding_fails_and_is_kept(fuzz, tmp_path):
    found = [("crash", b"abc"), ("timeout", b"d")]
    code, _, result = fuzz("coco", artifacts=found)
    assert code == 1 and not result["passed"]
    assert (result["figures"]["crashes"], result["figures"]["hangs"]) == (1, 1)
    assert sorted(p.read_bytes() for p in tmp_path.glob("*-coco-*")) == [b"abc", b"d"]


def test_libfuzzer_runs(tmp_path):
    """A few executions of the real one, where it is installed."""
    pytest.importorskip("atheris")
    if sys.gettrace() is not None:
        pytest.skip("coverage and libFuzzer watch the same")
    arguments = ["classes", "--executions", "300", "--results", str(tmp_path)]
    assert fuzz_readers.main(arguments) == 0
    figures = json.loads((tmp_path / "fuzz_classes.json").read_text())["figures"]
    assert figures["executions"] == 300 and figures["edges"] > 20
    assert figures["largest_memory_kb"] < 200 and not figures["crashes"]
