"""The plans of a run on a GPU, and all of their steps on the CPU."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPT = BENCHMARKS / "gpu_suite.py"
if not SCRIPT.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
plans = importlib.import_module("_plans")
suite = importlib.import_module("gpu_suite")
CHECKS = {"test", "sanitize memcheck"}
each_plan = pytest.mark.parametrize("minutes", plans.MINUTES)


def benches(minutes):
    steps = plans.PLANS[minutes]
    return [step for step in steps if step.name.startswith("bench_")]


@pytest.fixture
def arguments(monkeypatch):
    """What the suite makes of a command line."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["gpu_suite.py", *map(str, words)])
        return suite.parse()

    return call


@each_plan
def test_a_plan_fits_its_minutes(minutes):
    plan = plans.PLANS[minutes]
    assert plans.expected_s(plan) + plans.RESERVE_S <= 60 * minutes
    assert plan[0].name == "build"
    assert len({step.name for step in plan}) == len(plan)


@each_plan
def test_nothing_is_timed_beside_anything(minutes):
    for group in plans.groups(plans.PLANS[minutes]):
        assert len(group) == 1 or not any(step.name.startswith("bench_") for step in group)
    assert {step.name for step in plans.PLANS[minutes]} >= CHECKS


def test_a_longer_plan_has_all_of_a_shorter_one():
    names = [[step.name for step in plans.PLANS[minutes]] for minutes in plans.MINUTES]
    assert set(names[0]) < set(names[1]) < set(names[2])
    assert names[0][:4] == names[1][:4] == names[2][:4]  # what matters most is first in each


def test_what_is_left_out_of_a_dry_run_is_the_same_as_another_step():
    known = {step.name for step in benches(12)}
    for name, dry in plans.DRY.items():
        assert name in known | {"build"}
        if name != "build" and isinstance(dry, str):
            other = dry.removeprefix("as ")
            assert other.partition(" ")[0] == name.partition(" ")[0] and other in known


@each_plan
def test_the_benchmarks_know_their_arguments(minutes, monkeypatch):
    """Which nothing else says before a GPU is there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for step in benches(minutes):
        module = importlib.import_module(step.name.partition(" ")[0])
        parse = getattr(module, "parse", None) or module.arguments
        monkeypatch.setattr(sys, "argv", [step.name, *step.arguments, "--json", "out.json"])
        assert parse().json is not None, step.name


@pytest.mark.parametrize("asked, plan", [(4, 4), (6, 4), (7, 7), (11, 7), (12, 12), (90, 12)])
def test_other_minutes_take_the_plan_below(arguments, asked, plan):
    assert arguments("--minutes", asked).steps == plans.PLANS[plan]


@pytest.mark.parametrize(
    "words, message",
    [
        (["--minutes", "3"], "--minutes: expected 4 minutes or more, got 3"),
        (["--peers", "nowhere"], "--peers: nowhere is no folder"),
    ],
)
def test_refused_in_words(arguments, capsys, words, message):
    with pytest.raises(SystemExit):
        arguments(*words)
    assert message in capsys.readouterr().err


def test_some_steps_only(arguments):
    args = arguments("--minutes", 7, "--only", "bench_crf", "test", "--no-build")
    assert {step.name.partition(" ")[0] for step in args.steps} == {"bench_crf", "test"}


def test_plan_is_printed_alone():
    command = [sys.executable, SCRIPT, "--plan", "--minutes", "4"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "test, sanitize memcheck" in done.stdout and "s of 230" in done.stdout
    assert "no ratio to MONAI's filter: no --peers FOLDER" in done.stdout
    assert "==>" not in done.stdout


def test_peers_are_found_in_their_folder(arguments, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/other")
    assert set(suite.missing_peers(tmp_path)) >= {"MONAI's filter"}
    (tmp_path / "monai_phl.py").touch()
    (tmp_path / "pydensecrf").mkdir()
    (tmp_path / "pydensecrf" / "__init__.py").touch()
    assert suite.missing_peers(tmp_path) == {}
    run = suite.Suite(arguments("--peers", tmp_path, "--voc", tmp_path), tmp_path)
    jobs = {step.name: run.job(step) for step in benches(12)}
    assert all(job.environment == {"PYTHONPATH": f"{tmp_path}:/other"} for job in jobs.values())
    assert jobs["bench_permutohedral"].command[-4:-2] == ["--peer", "monai_phl"]
    assert str(tmp_path) in jobs["bench_crf"].command
    assert "--voc" not in jobs[plans.MADE_UP].command
    assert not any(map(run.why_not, benches(12)))


def test_threads_of_the_cpu(arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(plans, "cores", lambda: 12)
    run = suite.Suite(arguments(), tmp_path)
    (job,) = (run.job(step) for step in benches(12) if step.name == plans.ON_THE_CPU)
    at = job.command.index("--threads")
    assert job.command[at + 1 : at + 5] == ["1", "2", "4", "8"] and "--voc" not in job.command


def test_checks_on_a_gpu(arguments, monkeypatch, tmp_path):
    """No emulation, as many processes as the machine has cores for, every allocation alone."""
    monkeypatch.setattr(suite, "cores", lambda: 16)
    monkeypatch.setattr(suite, "gpu_memory_gb", lambda: 141.0)
    monkeypatch.setattr(suite._sanitizer, "find", lambda: "/cuda/compute-sanitizer")
    run = suite.Suite(arguments(), tmp_path)
    jobs = {step.name: run.job(step) for step in plans.PLANS[12]}
    assert {"--numprocesses=14", "cuda and not emulated"} <= set(jobs["test"].command)
    assert jobs["sanitize racecheck"].command[:3] == [
        "/cuda/compute-sanitizer",
        "--tool",
        "racecheck",
    ]
    assert jobs["sanitize racecheck"].environment == {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    assert jobs["build"].command[1:4] == ["-m", "pip", "install"]
    monkeypatch.setattr(suite._sanitizer, "find", lambda: None)
    left_out = [step.name for step in plans.PLANS[12] if run.why_not(step)]
    assert left_out == [*(f"sanitize {tool}" for tool in suite._sanitizer.TOOLS), plans.MADE_UP]


def test_a_step_that_fails_stops_no_other(monkeypatch, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("without a GPU they fail")
    monkeypatch.setattr(suite, "why_no_gpu", lambda: None)
    monkeypatch.setattr(suite, "why_no_kernels", lambda: None)
    path = tmp_path / "out.json"
    words = ["--only", "bench_space_to_batch", "bench_aspp", "--minutes", "4", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["gpu_suite.py", *words])
    assert suite.main() == 1
    steps = json.loads(path.read_text())["steps"]
    failed = ["bench_aspp", "bench_space_to_batch"]
    assert [(step["name"], step["status"]) for step in steps] == [(n, "failed") for n in failed]
    assert "torch finds no GPU" in capsys.readouterr().out


def test_results_before_anything_is_built(arguments, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "_timing", None)  # its import fails
    path = tmp_path / "new" / "out.json"
    run = suite.Suite(arguments("--json", path, "--commit", "a"), tmp_path)
    run.steps.skip("build", "no compiler")
    assert run.write() == []
    written = json.loads(path.read_text())
    assert written["machine"] == {"commit": "a"} and written["steps"][0]["name"] == "build"
    monkeypatch.delitem(sys.modules, "_timing")
    run.write()
    assert json.loads(path.read_text())["machine"]["torch"] == torch.__version__


def test_what_passed_before_is_not_run_again(arguments, tmp_path):
    path = tmp_path / "before.json"
    steps = [
        {"name": name, "status": status}
        for name, status in (("build", "passed"), ("bench_crf", "passed"), ("test", "failed"))
    ]
    before = {"machine": {"commit": "a"}, "steps": steps, "raw": {"bench_crf": {"results": []}}}
    path.write_text(json.dumps(before))
    run = suite.Suite(arguments("--json", path, "--commit", "a"), tmp_path)
    assert run.resume() == {"bench_crf"}
    assert run.raw == {"bench_crf": {"results": []}}
    other = suite.Suite(arguments("--json", path, "--commit", "b"), tmp_path)
    assert other.resume() == set()


def test_every_step_runs_on_the_cpu(tmp_path):
    """The longest plan has the steps of all; results are there after each."""
    out = tmp_path / "out.json"
    command = [sys.executable, SCRIPT, "--dry-run", "--minutes", "12", "--json", out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        written, lines = [], []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("==> ") and out.exists():
                written.append(len(json.loads(out.read_text())["steps"]))
    assert process.returncode == 0, "".join(lines)
    results = json.loads(out.read_text())
    assert {step["name"] for step in results["steps"]} == {s.name for s in plans.PLANS[12]}
    passed = {step["name"] for step in results["steps"] if step["status"] == "passed"}
    left_out = {name for name, dry in plans.DRY.items() if isinstance(dry, str)}
    assert {step.name for step in benches(12)} - left_out == set(results["raw"]) == passed - CHECKS
    assert passed > CHECKS
    assert len(set(written)) > 10  # not only at the end
