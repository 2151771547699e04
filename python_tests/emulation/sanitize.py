"""Runs the tests of the emulated CUDA kernels under a sanitizer of the compiler.

    python python_tests/emulation/sanitize.py address                       # ASan and UBSan
    python python_tests/emulation/sanitize.py thread                        # TSan
    python python_tests/emulation/sanitize.py thread --all                  # every test and block
    python python_tests/emulation/sanitize.py thread -k "emulated and crf"  # arguments of pytest

The Python process is not built with the sanitizer, so its run time is preloaded; only the kernels
are checked. Without arguments, the emulated tests run but for those that repeat others (DEFAULT)
and those marked `unsanitized`, and it is an error if a kernel of csrc/cuda did not run in them.
TSan watches some blocks of every kernel in every form (cuda_emu_launches.h), with `--all` each.
Where the compiler has no sanitizer, nothing runs, and a line on stderr says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SANITIZERS = {"address": "address,undefined", "thread": "thread"}
# the emulated tests but for those that run the same kernels on the same inputs again
DEFAULT = ["-q", "-m", "not unsanitized"]
_KERNELS = (
    "emulated and not opcheck and (not gradient or lattice_gradient) and not gradcheck "
    "and not compile"
)
# their threads share no memory, but for those that transpose: a few, for every kernel to run
_NO_EXCHANGE = "(aspp or upsample) and not (transposed or any_strides or same_bits or branches)"
# the same barriers as in bfloat16 and contiguous, and slow under TSan
_SAME_BARRIERS = "pipelined and (float32 or channels_last)"
# the CRF's kernels, of other values
_OTHER_VALUES = (
    "impossible_labels or dense_crf_channels or dense_crf_volumes or dense_crf_scale "
    "or no_sum_is_too_large or whatever_the_energies or learning_the_weights"
)
_SELECTED = {
    "address": _KERNELS,
    "thread": " and not ".join(
        (_KERNELS, f"({_NO_EXCHANGE})", f"({_SAME_BARRIERS})", f"({_OTHER_VALUES})")
    ),
}
_LIBRARIES = {  # libstdc++: ASan looks for the functions it replaces before Python loads it
    "address": ["libasan.so", "libstdc++.so"],
    "thread": ["libtsan.so"],
}
_OPTIONS = {
    # Python leaves memory to the system when it ends
    "address": {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"},
    # torch's own threads are not compiled with TSan, which cannot see how they synchronize; and no
    # second of sleep at the end, in which no thread of ours runs
    "thread": {
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1 atexit_sleep_ms=0"
    },
}


class UnavailableError(Exception):
    """The compiler has no such sanitizer, or it does not run here; says why."""


def environment(sanitizer: str) -> dict[str, str]:
    """What a Python process that loads instrumented kernels needs."""
    compiler = os.environ.get("CXX", "c++")
    paths = []
    for library in _LIBRARIES[sanitizer]:
        try:
            done = subprocess.run(
                [compiler, f"-print-file-name={library}"], capture_output=True, text=True
            )
        except OSError as error:
            raise UnavailableError(f"{compiler}: {error}") from None
        paths.append(done.stdout.strip())
        if not Path(paths[-1]).is_absolute():  # what is not found is printed as it was asked for
            raise UnavailableError(f"{compiler} has no {library}")
    return {**os.environ, **_OPTIONS[sanitizer], "LD_PRELOAD": " ".join(paths)}


def command(sanitizer: str) -> list[str]:
    """What to run Python by: TSan of older compilers fails where addresses are too random."""
    setarch = shutil.which("setarch")
    if sanitizer == "thread" and setarch:
        fixed = [setarch, "-R"]
        if subprocess.run([*fixed, "true"], capture_output=True).returncode == 0:
            return [*fixed, sys.executable]
    return [sys.executable]


def check(sanitizer: str) -> dict[str, str]:
    """The environment, after a Python has started in it; raises UnavailableError."""
    variables = environment(sanitizer)
    done = subprocess.run(
        [*command(sanitizer), "-c", "pass"], env=variables, capture_output=True, text=True
    )
    if done.returncode:
        raise UnavailableError(f"Python does not start under it: {done.stderr.strip()[-500:]}")
    return variables


def kernels(module: Path) -> dict[int, str]:
    """The kernels in the emulator's module: `name<arguments>` by its place there."""
    symbols = subprocess.run(
        ["nm", "--demangle", str(module)], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(
        r"^(\w+) [tTwW] (?:void )?(?:\w+::|\(anonymous namespace\)::)*(\w+_kernel\b[^(]*)",
        symbols,
        re.MULTILINE,
    )
    return {int(place, 16): name for place, name in found}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in SANITIZERS:
        sys.exit(f"{__doc__}\nexpected one of: {', '.join(SANITIZERS)}")
    sanitizer, arguments = sys.argv[1], sys.argv[2:]
    every = arguments == ["--all"]
    if every:
        arguments = ["-q", "-k", "emulated"]
    whole = not arguments
    if whole:
        arguments = [*DEFAULT, "-k", _SELECTED[sanitizer]]
    try:
        variables = check(sanitizer)
    except UnavailableError as error:
        print(f"!!! NOT CHECKED by the {sanitizer} sanitizer: {error}", file=sys.stderr)
        return 0
    sys.path.insert(0, str(HERE.parents[1]))
    from python_tests.emulation.build import ENVIRONMENT, build, default_folder

    folder = default_folder(f"-{sanitizer}")
    build(folder, f"-DSANITIZE={SANITIZERS[sanitizer]}")
    # no output capture: a sanitizer's report ends the process before pytest would print it
    pytest = [*command(sanitizer), "-m", "pytest", "-p", "no:cacheprovider", "--capture=sys"]
    variables[ENVIRONMENT] = str(folder)
    if every:
        variables["CUDA_EMU_WATCH"] = "all"
    with tempfile.TemporaryDirectory() as launches:
        variables["CUDA_EMU_LAUNCHES"] = launches
        done = subprocess.run([*pytest, *arguments], env=variables, cwd=HERE.parents[1])
        if done.returncode or not (whole or every):
            return done.returncode
        ran = {int(line, 16) for file in Path(launches).iterdir() for line in file.open()}
    names = kernels(next(folder.glob("_C_emu*.so")))
    idle = {name.partition("<")[0] for name in names.values()}
    idle -= {names[place].partition("<")[0] for place in ran if place in names}
    print(f"{len(ran & names.keys())} of {len(names)} kernels ran, with their template arguments")
    if idle:
        print(f"no test of the selection ran: {', '.join(sorted(idle))}", file=sys.stderr)
    return 1 if idle else 0


if __name__ == "__main__":
    sys.exit(main())
