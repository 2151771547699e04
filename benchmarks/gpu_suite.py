"""Everything that only a GPU can show, in one command: tests, compute-sanitizer, benchmarks.

    python benchmarks/gpu_suite.py --build                      # build, then all steps
    python benchmarks/gpu_suite.py --steps bench --limit-s 900
    python benchmarks/gpu_suite.py --dry-run                    # the same steps, on the CPU

Steps have time limits and do not stop one another. Their outcome, the figures with their goals and
the raw results go to benchmarks/results/nvidia-<gpu>.json after every benchmark, so that a run that
is ended early leaves what it had. Needs no network. Exit code 1 where a step failed, or no GPU is.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

from _steps import Outcome, Steps

HERE = Path(__file__).parent
ROOT = HERE.parent
TESTS = ROOT / "python_tests"
STEPS = ["test", "sanitize", "bench"]
TOOLS = ["memcheck", "racecheck", "initcheck"]

DTYPES = ["--dtype", "bfloat16", "float32"]
E2E = ["--device", "cuda", "--min-time", "0.2", "--batch", "1", "8"]
E2E += [*DTYPES, "--nets"]
SHORT = ["--min-runs", "2", "--min-time", "0"]
# name -> arguments on a GPU, arguments of a dry run (None: nothing to run without a GPU)
BENCHES: dict[str, tuple[list[str], list[str] | None]] = {
    "bench_crf": (["--device", "cuda"], ["--quick", "--no-peer"]),
    "bench_aspp": (
        ["--device", "cuda", *DTYPES, "tfloat32"],
        ["--parts", "upsampling", "--batch", "1", "--size", "9", *SHORT],
    ),
    "bench_conv": (
        ["--device", "cuda", *DTYPES, "tfloat32", "--batch", "1", "8", "--min-time", "0.05"],
        ["--layers", "res4", *SHORT],
    ),
    "bench_space_to_batch": ([], None),
    "bench_permutohedral": (
        ["--device", "cuda"],
        ["--size", "24", "32", "--sigmas", "80/13", "--min-time", "0"],
    ),
    "bench_e2e": ([*E2E, "deeplab_resnet101_aspp", "--size", "513"], ["--quick"]),
    "bench_e2e others": ([*E2E, "deeplab_vgg16_largefov"], None),
}


def build(steps: Steps) -> bool:
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "."]
    return steps.run("build", pip, 900).status == "passed"


def test(steps: Steps, args: argparse.Namespace, folder: Path) -> None:
    report = folder / "tests.xml"
    which = "emulated and space_to_batch" if args.dry_run else "cuda and not emulated"
    # another torch may deprecate what the pinned one does not
    warnings = [f"-Wdefault::{w}" for w in ("DeprecationWarning", "FutureWarning", "UserWarning")]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *warnings]
    pytest.append("--numprocesses=0")  # one process has the GPU
    outcome = steps.run(
        "test", [*pytest, f"--junitxml={report}", "-k", which, TESTS], args.test_limit_s
    )
    if report.exists():
        outcome.detail = steps.junit(report)
        print(f"    {outcome.detail['summary']}")
        if outcome.status == "passed" and not outcome.detail["passed"]:
            outcome.status, outcome.reason = "failed", "every test was skipped"


def sanitize(steps: Steps, args: argparse.Namespace) -> None:
    script = HERE / "sanitizer_set.py"
    if args.dry_run:
        steps.run("sanitize", [sys.executable, script, "--device", "cpu"], args.sanitize_limit_s)
        return
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path="/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer"
    )
    # torch's allocator gives pieces of large blocks, beyond whose ends is memory of others
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    for tool in TOOLS:
        if sanitizer is None:
            steps.skip(f"sanitize {tool}", "compute-sanitizer was not found")
            continue
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]
        if tool == "initcheck":  # torch's own kernels may copy what nobody wrote
            command += ["--kernel-name", "kernel_substring=deeplab_native"]
        outcome = steps.run(
            f"sanitize {tool}",
            [*command, sys.executable, script],
            args.sanitize_limit_s,
            environment,
        )
        if outcome.status == "failed" and "recogni" in outcome.tail and "--kernel-name" in command:
            outcome = steps.run(
                f"sanitize {tool} of every kernel",  # this version cannot choose them by name
                [*command[: command.index("--kernel-name")], sys.executable, script],
                args.sanitize_limit_s,
                environment,
            )
        refused = re.search(r".*(not supported|Unable to|Failed to init).*", outcome.tail, re.I)
        if outcome.status == "failed" and outcome.code != 9 and refused:
            outcome.status, outcome.reason = "skipped", refused[0].strip()
        print(f"    {outcome.last_line()}")


def bench(steps: Steps, args: argparse.Namespace, folder: Path) -> dict[str, dict]:
    raw = {}
    for name, (on_gpu, dry) in BENCHES.items():
        script = HERE / f"{name.partition(' ')[0]}.py"
        arguments = dry if args.dry_run else on_gpu
        if not script.exists():
            steps.skip(name, f"there is no {script.name}")
        elif arguments is None:
            steps.skip(name, "nothing of it runs without a GPU")
        else:
            out = folder / f"{name.replace(' ', '_')}.json"
            command = [sys.executable, script, *arguments, "--json", out]
            if args.peer and name == "bench_permutohedral":
                command += ["--peer", args.peer]
            steps.run(name, command, args.bench_limit_s)
            if out.exists():
                raw[name] = json.loads(out.read_text())
        write_results(steps, args, raw)
    return raw


def write_results(steps: Steps, args: argparse.Namespace, raw: dict[str, dict]) -> list[dict]:
    """Writes what there is so far; returns the figures."""
    from _cuda_timing import driver_version
    from _goals import figures
    from _timing import machine_info, write_json

    machine = machine_info() | {"driver": driver_version()}
    if args.commit:
        machine["commit"] = args.commit
    common = {key: machine[key] for key in ("commit", "date", "driver", "torch")}
    rows = [row | common for row in figures(raw)] if "bench" in args.steps else []
    outcomes = [outcome.as_dict() for outcome in steps.outcomes]
    write_json(args.json, {"machine": machine, "figures": rows, "steps": outcomes, "raw": raw})
    return rows


def print_table(rows: list[dict], outcomes: list[Outcome]) -> None:
    print("\n== steps")
    for o in outcomes:
        print(f"{o.status:8} {o.seconds:6.0f} s  {o.name}{': ' + o.reason if o.reason else ''}")
    if rows:
        print("\n== figures (goals: + reached, - missed, ? no value)")
    for row in rows:
        mark = {True: "+", False: "-", None: "?" if row["value"] is None else " "}[row["met"]]
        value = "" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
        print(f"{mark} {row['name']:76} {value:18} {row['goal']}")


def result_path(dry_run: bool) -> Path:
    import torch

    name = "dry-run" if dry_run else torch.cuda.get_device_name()
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower().replace("nvidia", "")).strip("-")
    folder = Path(tempfile.gettempdir()) if dry_run else HERE / "results"
    return folder / (f"gpu-suite-{slug}.json" if dry_run else f"nvidia-{slug}.json")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", action="store_true", help="install this checkout first")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--limit-s", type=float, default=3000, help="of the whole run")
    parser.add_argument("--test-limit-s", type=float, default=900)
    parser.add_argument("--sanitize-limit-s", type=float, default=300, help="of each tool")
    parser.add_argument("--bench-limit-s", type=float, default=300, help="of each benchmark")
    parser.add_argument("--commit", help="for the results, where this is no git checkout")
    parser.add_argument("--peer", help="module with MONAI's phl_filter, for bench_permutohedral")
    parser.add_argument("--dry-run", action="store_true", help="every step, small, on the CPU")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/nvidia-<gpu>.json")
    return parser.parse_args()


def why_no_gpu() -> str | None:
    import torch

    from deeplab_native import _C

    if not torch.cuda.is_available():
        return "torch finds no GPU (or was built without CUDA); --dry-run runs on the CPU"
    if not _C.has_cuda:
        return "deeplab_native was built without CUDA: --build with nvcc on PATH"
    return None


def main() -> int:
    args = parse()
    steps = Steps(ROOT, args.limit_s)
    if args.build and not build(steps):
        return 1
    if not args.dry_run and (reason := why_no_gpu()):
        print(f"gpu_suite: {reason}", file=sys.stderr)
        return 1
    args.json = args.json or result_path(args.dry_run)
    raw: dict[str, dict] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "test" in args.steps:
            test(steps, args, folder)
        if "sanitize" in args.steps:
            sanitize(steps, args)
        if "bench" in args.steps:
            raw = bench(steps, args, folder)
        rows = write_results(steps, args, raw)
    print_table(rows, steps.outcomes)
    print(f"\n{args.json}: written")
    return int(any(o.status in ("failed", "timeout") for o in steps.outcomes))


if __name__ == "__main__":
    sys.exit(main())
