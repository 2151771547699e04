"""The register and spill report: what it reads from ptxas, and what it fails on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "kernel_report.py"
if not SCRIPT.exists():
    pytest.skip("not a checkout", allow_module_level=True)
spec = importlib.util.spec_from_file_location("kernel_report", SCRIPT)
report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(report)
nvcc = importlib.import_module("_nvcc")  # where the script finds it

NAME = "_ZN14deeplab_native50_GLOBAL__N__258ffdac_17_space_to_batch_cu_47293efe8a_kernel"
PTXAS = f"""\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{NAME}IfEEvPKT_' for 'sm_90'
ptxas info    : Function properties for {NAME}IfEEvPKT_
    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 30 registers, used 1 barriers, 16 bytes cumulative stack size, 1024 bytes smem
ptxas info    : Function properties for _Z6helperf
    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function '{NAME}IdEEvPKT_' for 'sm_90'
ptxas info    : Function properties for {NAME}IdEEvPKT_
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 32 registers, 456 bytes cmem[0]
"""


@pytest.fixture
def rows():
    return report.parse(PTXAS, "a.cu", "90")


def test_reads_ptxas(rows):
    assert [report.key(row) for row in rows] == [
        "a.cu a_kernel<float> sm_90",
        "a.cu a_kernel<double> sm_90",
    ]
    numbers = ("registers", "stack", "spill_stores", "spill_loads", "static_shared")
    assert [[row[n] for n in numbers] for row in rows] == [[30, 16, 4, 8, 1024], [32, 0, 0, 0, 0]]


@pytest.mark.parametrize(
    "demangled, short",
    [
        ("void a::(anonymous namespace)::f<a::T, (int)3>(int, g<b>)", "f<T, (int)3>"),
        ("f(int)", "f"),
        ("void x::f<(bool)1, x::Max<(a::B)2> >(T const*)", "f<(bool)1, Max<(B)2> >"),
    ],
)
def test_short_names(demangled, short):
    assert nvcc.short_name(demangled) == short


def test_new_spills_fail_and_known_ones_do_not(rows):
    assert report.compare(rows, rows) == ([], [])
    clean = [row | {"stack": 0, "spill_stores": 0, "spill_loads": 0} for row in rows]
    errors, _ = report.compare(rows, clean)
    assert len(errors) == 3
    assert errors[0] == "a.cu a_kernel<float> sm_90: 4 bytes of spill stores; it had none"
    errors, notes = report.compare(rows, [])
    assert all("is not in the baseline" in error for error in errors) and len(errors) == 3
    assert len(notes) == 2
    errors, notes = report.compare(clean, rows)
    assert errors == []
    assert "a.cu a_kernel<float> sm_90: stack 16 -> 0 bytes" in notes
    assert report.compare([], rows)[1] == [f"{report.key(row)}: gone" for row in rows]
