"""compute-sanitizer's command line, and its output as read: made by the forms it documents."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)

START = "========= COMPUTE-SANITIZER\n"
END = "81 calls, forward and backward, of aspp_branches, space_to_batch\n"
TORCH = """\
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void at::native::vectorized_elementwise_kernel<(int)4>(int, T2, T3)+0x330
=========     by thread (31,0,0) in block (1,0,0)
=========     Address 0x7f3c7ec000fc
=========
========= Uninitialized __global__ memory read of size 8 bytes
=========     at void cub::CUB_300001::DeviceScanKernel<deeplab_native::First_kernel>(T1)+0x10
=========     by thread (0,0,0) in block (0,0,0)
"""
OURS = """\
========= Uninitialized __global__ memory read of size 4 bytes
=========     at void deeplab_native::(anonymous namespace)::splat_kernel<float, (int)4>(T1)+0x2b0
=========     by thread (1,0,0) in block (2,0,0)
=========     Address 0x7f3c7ec00100 is inside the nearest allocation
=========     Saved host backtrace up to driver entry point at kernel launch time
"""
MEMCHECK = """\
========= Invalid __global__ write of size 4 bytes
=========     at 0x150 in deeplab_native::_GLOBAL__N__56_space_to_batch_cu_047e::first_kernel(int *)
=========     by thread (1,0,0) in block (0,0,0)
=========     Access to 0x7f61 is out of bounds
========= Program hit cudaErrorLaunchFailure (error 719) on CUDA API call to cudaDeviceSynchronize.
=========     Saved host backtrace up to driver entry point at error
"""
RACE = """\
========= Error: Race reported between Write access at deeplab_native::<unnamed>::blur_kernel()+0x5
=========     and Read access at deeplab_native::<unnamed>::blur_kernel(int)+0x90 [512 hazards]
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""


@pytest.fixture
def sanitizer(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _sanitizer

    return _sanitizer


@pytest.fixture
def judged(sanitizer):
    def call(tool, output, code, status=None):
        from _steps import Outcome

        outcome = Outcome(tool, status or ("failed" if code else "passed"), code=code)
        sanitizer.judge(tool, outcome, output)
        return outcome.status, outcome.reason, outcome.detail

    return call


@pytest.mark.parametrize("tool", ["memcheck", "racecheck", "initcheck", "synccheck"])
def test_every_kernel_is_watched(sanitizer, tool):
    command = sanitizer.command("/cuda/compute-sanitizer", tool)
    assert command[:3] == ["/cuda/compute-sanitizer", "--tool", tool]
    assert command[-2] == sys.executable and Path(command[-1]).exists()
    assert not any("kernel" in word for word in command[:-2])  # no filter by name
    assert command[command.index("--error-exitcode") + 1] == "9"
    limit = int(command[command.index("--print-limit") + 1])
    assert limit >= 100_000 or tool != "initcheck"


def test_reports_name_our_kernels_only(sanitizer):
    found = sanitizer.reports(START + TORCH + OURS + "========= ERROR SUMMARY: 3 errors\n")
    assert [report.kernel for report in found] == [None, None, "splat_kernel"]
    assert found[2].kind == "Uninitialized __global__ memory read of size 4 bytes"
    kernels = [report.kernel for report in sanitizer.reports(START + MEMCHECK + RACE)]
    assert kernels == ["first_kernel", None, "blur_kernel"]


def test_initcheck_passes_what_others_read(judged):
    assert judged("initcheck", START + TORCH + END, 9) == ("passed", "", {"ours": {}, "others": 2})


def test_initcheck_fails_for_our_kernels(judged):
    status, reason, detail = judged("initcheck", START + TORCH + OURS + OURS + END, 9)
    said = "splat_kernel: Uninitialized __global__ memory read of size 4 bytes"
    assert (status, reason) == ("failed", said)
    assert detail == {"ours": {said: 2}, "others": 2}


@pytest.mark.parametrize("tool, text", [("memcheck", TORCH), ("racecheck", RACE)])
def test_other_tools_fail_for_every_report(judged, tool, text):
    assert judged(tool, START + text + END, 9)[0] == "failed"
    assert judged(tool, START + END, 0)[0] == "passed"


@pytest.mark.parametrize("end", ["", END + "never called, add them to CALLS: aspp_pack\n"])
@pytest.mark.parametrize("code", [0, 1, 9])
def test_a_script_that_did_not_end_well_fails(judged, end, code):
    """Also where reports of others' kernels hide its exit code."""
    assert judged("initcheck", START + TORCH + end, code)[0] == "failed"


def test_a_device_that_it_refuses_is_a_skip(judged):
    text = START + "========= Error: Device not supported. Please refer to the documentation\n"
    status, reason, _ = judged("memcheck", text, 1)
    assert status == "skipped" and "Device not supported" in reason
    assert judged("memcheck", START, -9, status="timeout")[0] == "timeout"
