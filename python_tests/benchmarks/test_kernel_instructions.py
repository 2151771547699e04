"""The instruction report: what it reads from PTX and disassembly, and what follows from it."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
sass = importlib.import_module("_sass")
occupancy = importlib.import_module("_occupancy").occupancy
report = importlib.import_module("kernel_instructions")

NAME = "_ZN14deeplab_native8a_kernelEPKf"
# A loop over items, with a division in line for small operands and by a call for others, and an
# inner loop; then a trap, padding and the subroutine.
SASS = f"""\
	.section	.text.{NAME},"ax",@progbits
.text.{NAME}:
        .type           {NAME},@function
{NAME}:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/               @P0 EXIT ;
.L_x_1:
        /*0020*/                   LDG.E.CONSTANT R2, desc[UR4][R2.64] ;
        /*0030*/              @!P0 BRA `(.L_x_2) ;
        /*0040*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;
        /*0050*/                   BRA `(.L_x_3) ;
.L_x_2:
        /*0060*/                   I2F.U32.RP R4, UR12 ;
        /*0070*/                   MUFU.RCP R4, R4 ;
.L_x_3:
        /*0080*/                   LDG.E.128 R4, desc[UR4][R6.64] ;
        /*0090*/                   FFMA R4, R4, R5, R6 ;
        /*00a0*/               @P1 BRA `(.L_x_3) ;
        /*00b0*/                   HFMA2.MMA R5, -RZ, RZ, 0, 0 ;
        /*00c0*/                   STG.E.64 desc[UR4][R8.64], R4 ;
        /*00d0*/                   BRA P2, `(.L_x_1) ;
        /*00e0*/                   EXIT ;
.L_x_4:
        /*00f0*/                   BRA `(.L_x_4);
        /*0100*/                   NOP;
        .weak           $__internal_0_$__cuda_sm20_div_s64
$__internal_0_$__cuda_sm20_div_s64:
        /*0110*/                   IADD3 R4, P0, R2, R3, RZ ;
        /*0120*/                   RET.REL.NODEC R6 `({NAME}) ;
"""
PTX = f"""\
.visible .entry {NAME}(
	.param .u64 a
)
.maxntid 32, 8, 1
.minnctapersm 4
{{
	ret;
}}
.entry _Z1bv()
{{
	ret;
}}
"""


@pytest.fixture
def code():
    return sass.read_sass(SASS)[NAME]


@pytest.mark.parametrize(
    "opcode, expected",
    [
        ("LDG.E.128.CONSTANT", "LDG.128"),
        ("LDG.E.ENL2.256", "LDG.256"),
        ("LDG.E.U16", "LDG.16"),
        ("STG.E", "STG.32"),
        ("LDS.U.64", "LDS.64"),
        ("LDSM.16.MT88.4", "LDS.128"),
        ("LDL.LU", "LDL"),
        ("LD.E.128", "generic load.128"),
        ("LDC.64", "constant"),
        ("HMMA.16816.F32.BF16", "tensor"),
        ("HGMMA.64x128x16.F32.BF16", "tensor"),
        ("HFMA2.MMA", "half"),
        ("HFMA2", "half"),
        ("IMAD.WIDE.U32", "integer"),
        ("UIADD3", "uniform"),
        ("VIADD", "integer"),
        ("VOTEU.ANY", "vote"),
        ("RED.E.ADD.STRONG.GPU", "atomic"),
        ("ATOMG.E.CAS", "atomic"),
        ("BAR.SYNC.DEFER_BLOCKING", "BAR"),
        ("MOV", "other"),
    ],
)
def test_classes(opcode, expected):
    assert sass.class_of(opcode) == expected


def test_counts_instructions(code):
    assert len(code.own) == 16  # without NOP and the subroutine
    assert {name: len(body) for name, body in code.subroutines.items()} == {
        "__cuda_sm20_div_s64": 2
    }
    found = sass.count(code.own)
    assert found["LDG.32"] == found["LDG.128"] == found["STG.64"] == found["FFMA"] == 1
    assert found["branch"] == 5 and found["control"] == 2 and found["half"] == 1
    assert sum(found.values()) == len(code.own)
    assert sass.calls(code) == {"__cuda_sm20_div_s64": 1}
    assert sass.inlined_divisions(code) == 1


def test_loops(code):
    outer, inner = sass.loops(code)
    # LDG, BRA, I2F, MUFU, one turn of the inner loop, HFMA2, STG, BRA: not the call
    assert (outer["depth"], outer["least"], outer["instructions"]) == (0, 10, 9)
    assert inner["around"] == 7 and "around" not in outer
    assert (inner["depth"], inner["least"], inner["instructions"]) == (1, 3, 3)
    assert inner["LDG.128"] == inner["FFMA"] == 1
    assert outer["STG.64"] == 1 and "LDG.128" not in outer


def test_a_call_counts_what_it_calls(code):
    del code.own[3]  # the way around it
    assert sass.loops(code)[0]["least"] == 1 + (1 + 2) + 1 + 3 + 3


def test_reads_launch_bounds():
    bounds = report.read_ptx(PTX)
    assert bounds[NAME] == {"block": 256, "min_blocks": 4, "dynamic_shared": False}
    assert bounds["_Z1bv"]["block"] is None
    assert report.read_ptx(".extern .shared .b8 s[];\n" + PTX)[NAME]["dynamic_shared"]


@pytest.mark.parametrize(
    "arch, block, registers, shared, warps, limit",
    [
        ("sm_90", 256, 32, 0, 64, "warps"),
        ("sm_90", 256, 33, 0, 48, "registers"),  # 40 of a thread: 12 warps of each scheduler
        ("sm_90", 256, 64, 0, 32, "registers"),
        ("sm_80", 256, 16, 40960, 32, "shared memory"),  # 41 KB of each block, of 164
        ("sm_90", 256, 16, 40960, 40, "shared memory"),  # of 228
        ("sm_100", 32, 16, 0, 32, "blocks"),
        ("sm_90", 256, 255, 0, 8, "registers"),
    ],
)
def test_occupancy(arch, block, registers, shared, warps, limit):
    found = occupancy(arch, block, registers, shared)
    assert (found["warps"], found["limit"]) == (warps, limit)
    assert found["occupancy"] == warps / 64


@pytest.fixture
def rows():
    row = {"file": "a.cu", "mangled": NAME, "arch": "sm_90", "registers": 40, "static_shared": 0}
    return report.describe([row | {"stack": 0}], PTX, SASS)


def test_a_row(rows):
    (row,) = rows
    assert (row["kernel"], row["warps"], row["instructions"]) == ("a_kernel", 48, 16)
    assert "stack" not in row and len(row["loops"]) == 2
    heads, cells = report.table(rows).splitlines()
    assert heads.split()[:6] == ["kernel", "regs", "smem", "block", "warps", "limit"]
    assert "1x128 1x32" in cells and "1 __cuda_sm20_div_s64" in cells


def test_without_a_disassembler():
    row = {"file": "a.cu", "mangled": NAME, "arch": "sm_80", "registers": 40, "static_shared": 0}
    (row,) = report.describe([row], PTX, None)
    assert row["warps"] == 48 and "instructions" not in row
    assert "a.cu a_kernel sm_80" in report.table([row])


def test_other_files_stay(rows):
    other = json.loads(json.dumps(rows[0])) | {"file": "b.cu"}
    kept = {"nvcc": "13.0", "kernels": [other, rows[0] | {"registers": 1}]}
    assert report.merged(rows, kept, "13.0") == [*rows, other]
    assert report.merged(rows, kept, "13.1") == rows
