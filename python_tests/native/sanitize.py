"""Runs the tests of the native module's CPU kernels under a sanitizer of the compiler.

    python python_tests/native/sanitize.py address           # ASan, LeakSanitizer and UBSan
    python python_tests/native/sanitize.py thread            # TSan
    python python_tests/native/sanitize.py thread --all      # every test that runs native code
    python python_tests/native/sanitize.py thread -k kept    # arguments of pytest

`_C` is built with the sanitizer and takes the place of the installed one, in the tests and in the
processes that they start (instrumented/sitecustomize.py); the run ends where it does not. Without
arguments: the selection of .ci/run, each kernel with several threads, instruction sets and dtypes
(SELECTED). UBSan looks for conversions of floats that do not fit, too; a division of floats by
zero is an infinity in this code, and no fault. Where the compiler has no sanitizer, nothing runs,
and a line on stderr says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TESTS, ROOT = HERE.parent, HERE.parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from python_tests.sanitized_run import LOADED, MODULE
from python_tests.sanitizers import Run, UnavailableError, check, command, run_pytest

SANITIZERS = {"address": "address,undefined,float-cast-overflow", "thread": "thread"}

# python_tests/emulation/sanitize.py runs the CUDA kernels; and a sanitizer needs memory of its own
_CPU = "not emulated and not cuda and not memory_goes_with_the_cells and not memory_of_the_largest"
# Folders, files and tests of which none runs native code, or none that others do not run, too.
LEFT_OUT = {
    "annotations": "no native code",
    "benchmarks": "programs that call the same functions, to measure them",
    "cli/test_conventions.py::test_the_script_for_the_shell": "no native code: shells, and TSan's "
    "runtime ends them",
    "cli/test_conventions.py::test_bash_completes": "as the one before",
    "docs": "examples that call the same functions; a browser and mkdocs",
    "trust": "programs that limit memory or preload libraries, as a sanitizer does",
    "test_malloc.py": "the memory of a process, in which a sanitizer's would count",
    "jobs/test_ray.py": "the same workers, in processes of Ray, not built for a sanitizer",
    "jobs/test_ray_parts.py": "as test_ray.py",
    "web/test_browser.py": "a browser; test_routes.py calls the same without one",
    "viz/test_report_in_browser.py": "no native code: a browser",
    "test_notebooks.py": "examples that call the same functions, in kernels of Jupyter",
    "test_release.py": "no native code: wheels and their names",
    "test_architecture.py": "no native code: imports",
    "test_optional_packages.py": "no native code: imports",
    "native/test_emulation.py": "the emulator; runs under sanitizers of its own",
    "native/test_emulated_gauss.py": "the emulator",
    "native/test_sanitizers.py": "this run itself",
    "native/test_stubs.py": "no native code: signatures",
}


# For .ci/run, of those: one form of each kernel and of each way of being called; under TSan what
# has several threads, and not each number of labels and channels again
SELECTED = {
    "address": (
        "native",
        "pydensecrf",
        "crf/test_processes.py",
        "layers/test_atrous_pool.py",
        "ops",
    ),
    "thread": (
        "crf/test_processes.py",
        "layers/test_atrous_pool.py",
        "native/test_native.py",
        "native/test_shared_calls.py",
        "ops/test_aspp.py",
        "ops/test_atrous_im2col.py",
        "ops/test_bridged.py",
        "ops/test_dense_crf.py",
        "ops/test_dense_crf_images.py",
        "ops/test_dense_crf_volumes.py",
        "ops/test_exact_mean_field.py",
        "ops/test_gauss_transform.py",
        "ops/test_kept_lattices.py",
        "ops/test_lattice_gradient.py",
        "ops/test_lattice_threads.py",
        "ops/test_mean_field.py",
        "ops/test_mean_field_gradient.py",
        "ops/test_permutohedral.py",
        "ops/test_space_to_batch.py",
        "ops/test_upsample_unary.py",
        "ops/test_wide_lattice.py",
        "pydensecrf/test_q.py",
    ),
}
# Not in .ci/run: the same kernels on the same inputs through more of PyTorch, the checks of
# arguments in Python, and the CUDA kernels' own tests
_REPEATS = (
    "opcheck or gradcheck or compile or dynamo or export or func or meta or random_walk "
    "or any_strides or public_autograd or misfit or argument or error or calling or bad_input "
    "or test_atrous_direct or hot_labels or half_rows or checkpoints or memory_does_not_grow"
)


def arguments_of(sanitizer: str, arguments: list[str]) -> list[str]:
    """Of pytest: those that are given, or the selection, or with --all everything."""
    if arguments not in ([], ["--all"]):
        return ["-q", "-k", _CPU, *arguments]
    # pytest knows a test by its file's path from the root, and nothing by another
    folder = TESTS.relative_to(ROOT)
    left_out = [f"--{'deselect' if '::' in n else 'ignore'}={folder / n}" for n in LEFT_OUT]
    if arguments:
        return ["-q", "-k", _CPU, *left_out, str(TESTS)]
    chosen = [str(TESTS / name) for name in SELECTED[sanitizer]]
    return ["-q", "-k", f"{_CPU} and not ({_REPEATS})", *left_out, *chosen]


def folder_of(sanitizer: str) -> Path:
    """Where the instrumented modules of this Python are built."""
    return ROOT / "build" / f"native-{sys.implementation.cache_tag}-{sanitizer}"


def build_module(sanitizer: str, target: str = "_C") -> Path:
    """The instrumented module, built where it is out of date."""
    from python_tests.emulation.build import build

    folder = folder_of(sanitizer)
    # RelWithDebInfo: no optimization by the linker, and symbols stay
    options = ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DDEEPLAB_NATIVE_CUDA=OFF"]
    options.append(f"-DDEEPLAB_NATIVE_SANITIZE={SANITIZERS[sanitizer]}")
    build(folder, *options, target=target, source=ROOT)
    return next(folder.glob(f"{target}*.so"))


def environment(module: Path, loaded: Path) -> dict[str, str]:
    """What has a Python and its children load that module; each leaves a file in `loaded`."""
    path = [str(HERE / "instrumented"), os.environ.get("PYTHONPATH", "")]
    return {
        MODULE: str(module),
        LOADED: str(loaded),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }


def find_leaks(variables: Mapping[str, str]) -> list[str]:
    """What leaks.py, which calls every op and the drop-in again and again, does not free.

    The stacks of LeakSanitizer's report that the module allocates in; of those of Python and torch,
    which leave memory to the system, nothing is said. Empty, with a line on stderr, where
    LeakSanitizer does not run, as in containers that forbid it to look at the process.
    """
    environment = {
        **check("address", more=("detect_leaks=1", "leak_check_at_exit=0")),
        **variables,
        "PYTHONMALLOC": "malloc",  # so that what Python's objects hold is seen to be held
    }
    done = subprocess.run(
        [*command("address"), str(HERE / "leaks.py")],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"leaks.py failed:\n{done.stdout}\n{done.stderr}")
    if "has encountered a fatal error" in done.stderr:
        print(f"!!! NOT CHECKED: leaks: {done.stderr.strip()[-500:]}", file=sys.stderr)
        return []
    return leaks_in(done.stderr, "/_C.")


def leaks_in(report: str, module: str) -> list[str]:
    """The stacks of LeakSanitizer's report in which a module allocates.

    The stacks of the others are Python's and torch's, which leave memory to the system. Symbols
    have the file of the source in place of the module's, or both.
    """
    stacks = [stack for stack in report.split("\n\n") if " leak of " in stack]
    return [stack for stack in stacks if module in stack or str(ROOT / "csrc") in stack]


@dataclass(frozen=True)
class Result:
    """A run, the number of processes that loaded the module, and what leaked."""

    run: Run
    processes: int
    leaks: list[str]

    @property
    def failed(self) -> bool:
        """Whether a test failed, something was found, or something leaked."""
        return self.run.failed or bool(self.leaks)


def run(sanitizer: str, arguments: list[str]) -> Result:
    """Builds the module and runs tests with it.

    Args:
        sanitizer: "address" or "thread".
        arguments: of pytest; none: the selection of .ci/run; ["--all"]: all.

    Raises:
        UnavailableError: the sanitizer is not here.
    """
    check(sanitizer)  # before a build that takes minutes
    module = build_module(sanitizer)
    with tempfile.TemporaryDirectory() as loaded:
        variables = environment(module, Path(loaded))
        done = run_pytest(sanitizer, arguments_of(sanitizer, arguments), variables)
        processes = len(list(Path(loaded).iterdir()))
        leaks = find_leaks(variables) if sanitizer == "address" else []
    for stack in leaks:
        print(stack, file=sys.stderr)
    print(f"{processes} processes loaded {module.name} of {module.parent}")
    return Result(done, processes, leaks)


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in SANITIZERS:
        sys.exit(f"{__doc__}\nexpected one of: {', '.join(SANITIZERS)}")
    try:
        return int(run(sys.argv[1], sys.argv[2:]).failed)
    except UnavailableError as error:
        print(f"!!! NOT CHECKED by the {sys.argv[1]} sanitizer: {error}", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())
