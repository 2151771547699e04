"""Runs the tests of the emulated CUDA kernels under a sanitizer of the compiler.

    python python_tests/emulation/sanitize.py address                       # ASan and UBSan
    python python_tests/emulation/sanitize.py thread                        # TSan
    python python_tests/emulation/sanitize.py thread --all                  # every test and block
    python python_tests/emulation/sanitize.py thread -k "emulated and crf"  # arguments of pytest

Without arguments, the emulated tests run but for those that repeat others (DEFAULT)
and those marked `unsanitized`, and it is an error if a kernel of csrc/cuda did not run in them.
TSan watches some blocks of every kernel in every form (cuda_emu_launches.h), with `--all` each.
Where the compiler has no sanitizer, nothing runs, and a line on stderr says so.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))

from python_tests.sanitizers import Run, UnavailableError, check, run_pytest

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


def run(sanitizer: str, arguments: list[str]) -> tuple[Run, set[str], set[str]]:
    """Builds the kernels and runs their tests under a sanitizer.

    Args:
        sanitizer: "address" or "thread".
        arguments: of pytest; none: the selection; ["--all"]: every test and block.

    Returns:
        the run, the kernels that ran, with their template arguments, and those of the module.

    Raises:
        UnavailableError: the sanitizer is not here.
    """
    from python_tests.emulation.build import ENVIRONMENT, build, default_folder

    check(sanitizer)  # before a build that takes minutes
    folder = default_folder(f"-{sanitizer}")
    build(folder, f"-DSANITIZE={SANITIZERS[sanitizer]}")
    variables = {ENVIRONMENT: str(folder)}
    if arguments == ["--all"]:
        arguments = ["-q", "-k", "emulated"]
        variables["CUDA_EMU_WATCH"] = "all"
    with tempfile.TemporaryDirectory() as launches:
        variables["CUDA_EMU_LAUNCHES"] = launches
        done = run_pytest(sanitizer, arguments or [*DEFAULT, "-k", _SELECTED[sanitizer]], variables)
        ran = {int(line, 16) for file in Path(launches).iterdir() for line in file.open()}
    names = kernels(next(folder.glob("_C_emu*.so")))
    return done, {names[place] for place in ran if place in names}, set(names.values())


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in SANITIZERS:
        sys.exit(f"{__doc__}\nexpected one of: {', '.join(SANITIZERS)}")
    sanitizer, arguments = sys.argv[1], sys.argv[2:]
    try:
        done, ran, there = run(sanitizer, arguments)
    except UnavailableError as error:
        print(f"!!! NOT CHECKED by the {sanitizer} sanitizer: {error}", file=sys.stderr)
        return 0
    if done.failed or arguments not in ([], ["--all"]):
        return int(done.failed)
    idle = {name.partition("<")[0] for name in there} - {name.partition("<")[0] for name in ran}
    print(f"{len(ran)} of {len(there)} kernels ran, with their template arguments")
    if idle:
        print(f"no test of the selection ran: {', '.join(sorted(idle))}", file=sys.stderr)
    return 1 if idle else 0


if __name__ == "__main__":
    sys.exit(main())
