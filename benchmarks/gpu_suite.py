"""Everything that only a GPU can show, in one command and a few minutes.

    python benchmarks/gpu_suite.py --minutes 7                  # 4, 7 or 12: build, then what fits
    python benchmarks/gpu_suite.py --minutes 7 --plan           # what that is, and when
    python benchmarks/gpu_suite.py --minutes 12 --peers FOLDER  # with pydensecrf and MONAI's filter
    python benchmarks/gpu_suite.py --dry-run                    # the same steps, small, on the CPU

What matters most comes first. Steps have time limits and do not stop one another; tests and
compute-sanitizer run side by side, what is timed runs alone. The machine, the outcome of each step,
the figures with their goals and the raw results go to benchmarks/results/nvidia-<gpu>.json after
every step, so that a run that is ended early leaves what it had. Needs no network. Exit code 1
where a step failed, or no GPU is.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import _sanitizer
from _peers import find_monai, missing_peers
from _plans import (
    DRY,
    MADE_UP,
    ON_THE_CPU,
    PLANS,
    RESERVE_S,
    Step,
    cores,
    groups,
    plan_for,
    shown,
    thread_counts,
)
from _steps import Job, Outcome, Steps
from _suite_results import print_table, result_path, whole, write

HERE = Path(__file__).parent
ROOT = HERE.parent
PIP = ["-m", "pip", "install", "--no-build-isolation", "--no-deps", "."]
TEST_PROCESSES = 14  # at most; some 0.5 GB of the GPU's memory each


class Suite:
    """A run: its arguments, steps and results so far."""

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args = args
        self.folder = folder
        self.steps = Steps(ROOT, 60 * args.minutes - RESERVE_S)
        self.raw: dict[str, dict] = {}
        self.known: dict = {}
        self.voc = None if args.dry_run or args.voc is None else args.voc.resolve()

    def why_not(self, step: Step) -> str | None:
        """Why a step is left out."""
        what, _, which = step.name.partition(" ")
        if self.args.dry_run and isinstance(DRY.get(step.name), str):
            return DRY[step.name]
        if self.args.dry_run and what == "sanitize" and which != _sanitizer.TOOLS[0]:
            return "as memcheck: in a dry run no tool watches"
        if step.name == MADE_UP and self.voc is None:
            return "bench_crf has them: no --voc FOLDER"
        if what == "sanitize" and not self.args.dry_run and _sanitizer.find() is None:
            return "compute-sanitizer was not found"
        return None

    def job(self, step: Step) -> Job:
        """Its process."""
        what, _, which = step.name.partition(" ")
        dry, environment = self.args.dry_run, {}
        if what == "build":
            command = [sys.executable, *PIP]
        elif what == "test":
            command = self.pytest()
        elif what == "sanitize" and dry:
            command = [sys.executable, _sanitizer.SCRIPT, "--device", "cpu"]
        elif what == "sanitize":
            command = _sanitizer.command(_sanitizer.find() or "compute-sanitizer", which)
            environment = _sanitizer.ENVIRONMENT
        else:
            if self.args.peers:
                path = [str(self.args.peers.resolve()), os.environ.get("PYTHONPATH", "")]
                environment = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
            arguments = DRY[step.name] if dry else step.arguments
            command = [sys.executable, HERE / f"{what}.py", *arguments]
            command += [*self.for_the_machine(step.name), "--json", self.output(step)]
        return Job(step.name, command, (3 if what == "build" else 2) * step.seconds, environment)

    def output(self, step: Step) -> Path:
        return self.folder / f"{step.name.replace(' ', '_')}.json"

    def for_the_machine(self, name: str) -> list[str]:
        """Arguments that depend on what is there."""
        words = []
        if name == ON_THE_CPU:
            words += ["--threads", *thread_counts()]
        if name == "bench_variants" and self.args.dry_run:  # all have a test of their own
            from deeplab_native._variants import CHOICES

            words += ["--switch", *list(CHOICES)[:1]] if CHOICES else []
        if name.startswith("bench_crf") and name != MADE_UP and self.voc:
            words += ["--voc", str(self.voc), "--photos", "1"]
        if name == "bench_permutohedral" and (module := find_monai(self.args.peers)):
            words += ["--peer", module]
        return words

    def pytest(self) -> list[object]:
        # another torch may deprecate what the pinned one does not
        ignored = ("DeprecationWarning", "FutureWarning", "UserWarning")
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [
            *(f"-Wdefault::{w}" for w in ignored),
            f"--junitxml={self.folder / 'tests.xml'}",
        ]
        if self.args.dry_run:
            small = "python_tests/ops/test_pairwise_features.py"
            return [
                *command,
                "--numprocesses=0",
                "-k",
                "cpu and not compile and not opcheck",
                small,
            ]
        processes = max(1, min(TEST_PROCESSES, cores() - 2, int(gpu_memory_gb())))
        return [*command, f"--numprocesses={processes}", "-k", "cuda and not emulated"]

    def run(self, group: list[Step]) -> None:
        jobs = []
        for step in group:
            if why := self.why_not(step):
                self.steps.skip(step.name, why)
            else:
                jobs.append(self.job(step))
        by_name = {step.name: step for step in group}
        for outcome, output in self.steps.run(jobs) if jobs else []:
            what, _, which = outcome.name.partition(" ")
            report = self.folder / "tests.xml"
            if what == "sanitize" and outcome.status != "skipped":
                _sanitizer.judge("memcheck" if self.args.dry_run else which, outcome, output)
            if what == "test" and report.exists():
                outcome.detail = Steps.junit(report)
                if outcome.status == "passed" and not outcome.detail["passed"]:
                    outcome.status, outcome.reason = "failed", "every test was skipped"
            if self.output(by_name[outcome.name]).exists():
                self.raw[outcome.name] = json.loads(self.output(by_name[outcome.name]).read_text())
            self.steps.show(outcome)
            if "summary" in outcome.detail:
                print(f"    {outcome.detail['summary']}")
        self.write()

    def write(self) -> list[dict]:
        """Writes what there is so far; returns the figures."""
        results = whole(self.machine(), self.raw, self.steps.outcomes)
        write(self.args.json, results)
        return results["figures"]

    def machine(self) -> dict:
        """Asked for once; what is known of it before deeplab_native is built is next to nothing."""
        self.known = self.known or machine(self.args.commit)
        return self.known or {"commit": self.args.commit}

    def resume(self) -> set[str]:
        """Takes over the steps that passed in an earlier run into the same file; their names."""
        if not self.args.json.exists():
            return set()
        before = json.loads(self.args.json.read_text())
        if before["machine"].get("commit") != self.machine().get("commit"):
            return set()
        for step in before["steps"]:
            if step["status"] == "passed" and step["name"] != "build":
                self.steps.outcomes.append(Outcome(**step))
                if step["name"] in before["raw"]:
                    self.raw[step["name"]] = before["raw"][step["name"]]
        return {outcome.name for outcome in self.steps.outcomes}


def machine(commit: str | None) -> dict:
    """What `machine_info` says, and the driver; nothing where deeplab_native is not installed."""
    try:
        from _cuda_timing import driver_version
        from _timing import machine_info
    except ImportError:
        return {}
    info = machine_info() | {"driver": driver_version()}
    return info | ({"commit": commit} if commit else {})


def gpu_memory_gb() -> float:
    import torch

    return torch.cuda.mem_get_info()[1] / 2**30 if torch.cuda.is_available() else 1.0


def why_no_gpu() -> str | None:
    import torch

    if torch.cuda.is_available():
        return None
    return "torch finds no GPU (or was built without CUDA); --dry-run runs on the CPU"


def why_no_kernels() -> str | None:
    """Asked in another process: this one may not see what was installed since it began."""
    code = "import sys; from deeplab_native import _C; sys.exit(0 if _C.has_cuda else 3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 3:
        return "deeplab_native was built without CUDA: is nvcc on PATH?"
    return done.stderr or None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", type=int, default=max(PLANS), help="4, 7 or 12; others: the nearest below"
    )
    parser.add_argument("--plan", action="store_true", help="print what would be done, and end")
    parser.add_argument("--dry-run", action="store_true", help="every step, small, on the CPU")
    parser.add_argument("--no-build", action="store_true", help="measure what is installed")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="with pydensecrf, monai_phl")
    parser.add_argument("--voc", type=Path, metavar="FOLDER", help="as bench_crf.py takes it")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="steps whose name begins so")
    parser.add_argument("--resume", action="store_true", help="leave out what passed before")
    parser.add_argument("--commit", help="for the results, where this is no git checkout")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/nvidia-<gpu>.json")
    args = parser.parse_args()
    for name in ("peers", "voc"):
        if (folder := getattr(args, name)) and not folder.is_dir():
            parser.error(f"--{name}: {folder} is no folder")
    try:
        args.steps = PLANS[plan_for(args.minutes)]
    except ValueError as error:
        parser.error(f"--minutes: {error}")
    if args.no_build:
        args.steps = [step for step in args.steps if step.name != "build"]
    if args.only:
        args.steps = [step for step in args.steps if step.name.startswith(tuple(args.only))]
    return args


def default_path(dry_run: bool) -> Path:
    if dry_run:
        return Path(tempfile.gettempdir()) / "gpu-suite-dry-run.json"
    import torch

    return result_path(torch.cuda.get_device_name())


def main() -> int:
    args = parse()
    print(shown(args.steps, args.minutes), flush=True)
    for peer, why in missing_peers(args.peers).items():
        print(f"no ratio to {peer}: {why}")
    if args.plan:
        return 0
    if not args.dry_run and (reason := why_no_gpu()):
        sys.exit(f"gpu_suite: {reason}")
    args.json = args.json or default_path(args.dry_run)
    with tempfile.TemporaryDirectory() as name:
        suite = Suite(args, Path(name))
        builds = [step for step in args.steps if step.name == "build"]
        if builds:
            suite.run(builds)
        importlib.invalidate_caches()
        if not args.dry_run and (reason := why_no_kernels()):
            sys.exit(f"gpu_suite: {reason}")
        done = suite.resume() if args.resume else set()
        left = [step for step in args.steps if step.name != "build" and step.name not in done]
        for group in groups(left):
            suite.run(group)
        print_table(suite.write(), suite.steps.outcomes)
    print(f"\n{args.json}: written")
    return int(any(o.status in ("failed", "timeout") for o in suite.steps.outcomes))


if __name__ == "__main__":
    sys.exit(main())
