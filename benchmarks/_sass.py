"""Reads what nvdisasm prints of a cubin: instructions of every kernel, by class, and its loops."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from dataclasses import dataclass, field

_SECTION = re.compile(r"^\.text\.(\S+):$")
_SUBROUTINE = re.compile(r"^\$__internal_\d+_\$(\S+):$")
_LABEL = re.compile(r"^(\.L_\w+):$")
_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*)")
_TARGET = re.compile(r"^\s*(\S.*?)?\s*`\(([^)]+)\)")  # what comes before it is a condition

# The first pattern that matches an opcode without its modifiers names its class. HFMA2 comes before
# the tensor cores: HFMA2.MMA is how the compiler writes a constant into a register.
CLASSES = [
    (name, re.compile(pattern))
    for name, pattern in [
        ("LDG", r"LDG$"),
        ("STG", r"STG$"),
        ("LDS", r"LDS(M|$)"),
        ("STS", r"STS(M|$)"),
        ("LDL", r"LDL$"),
        ("STL", r"STL$"),
        ("generic load", r"LD$"),  # of which the compiler does not know that it is shared memory
        ("generic store", r"ST$"),
        ("FFMA", r"FFMA2?$"),
        ("FADD", r"FADD2?$"),
        ("FMUL", r"FMUL2?$"),
        ("half", r"H(FMA2|ADD2|MUL2|SETP2|SET2|MNMX2)"),
        ("tensor", r"([HIDQ]G?MMA|UTC\w*MMA|OMMA|WGMMA)$"),
        ("double", r"D(FMA|ADD|MUL|SETP|MNMX)$"),
        ("MUFU", r"MUFU$"),
        ("convert", r"(I2I|I2F|F2I|F2F|F2FP|I2FP|FRND|F2IP)$"),
        ("float other", r"F(SETP|SEL|MNMX3?|SET|CHK|SWZADD)$"),
        ("BAR", r"BAR$"),
        ("SHFL", r"SHFL$"),
        ("vote", r"(VOTE|VOTEU|MATCH|REDUX|WARPSYNC)$"),
        ("atomic", r"(ATOM|ATOMG|ATOMS|RED|REDG|ATOMGS)$"),
        ("CALL", r"CALL$"),
        ("branch", r"(BRA|BRX|BRXU|JMP|JMX)$"),
        ("control", r"(EXIT|RET|BSSY|BSYNC|BREAK|BMOV|ENDCOLLECTIVE|NANOSLEEP|YIELD)$"),
        ("constant", r"(LDC|ULDC|LDCU)$"),
        ("uniform", r"(U[A-Z]|R2UR|S2UR)"),
        (
            "integer",
            r"(IMAD|IADD|ISETP|IABS|IMNMX|ISCADD|IDP|VI|LOP|LEA|SHF|SHL|SHR|POPC|FLO|BMSK|SGXT"
            r"|SEL$|PRMT|BREV|PLOP3|P2R|R2P)",
        ),
    ]
]
_WIDE = ("LDG", "STG", "LDS", "STS", "generic load", "generic store")  # counted by width
# of loops: what the work of one turn can be told by
_MARKERS = (*_WIDE, "tensor", "FFMA", "FADD", "FMUL", "atomic", "SHFL", "BAR", "LDL", "STL")


@dataclass
class Instruction:
    address: int
    opcode: str
    target: str | None = None  # of a branch or a call
    conditional: bool = False


@dataclass
class Code:
    """One kernel: its own instructions, those of the subroutines that it calls, its labels."""

    own: list[Instruction] = field(default_factory=list)
    subroutines: dict[str, list[Instruction]] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)


def read_sass(text: str) -> dict[str, Code]:
    """`nvdisasm -c` -> the kernels by their mangled names; padding (NOP) is left out."""
    kernels: dict[str, Code] = {}
    code, into, pending = Code(), [], []
    for line in text.splitlines():
        if match := _SECTION.match(line):
            code = kernels.setdefault(match[1], Code())
            into = code.own
        elif match := _SUBROUTINE.match(line):
            into = code.subroutines.setdefault(match[1], [])
        elif match := _LABEL.match(line):
            pending.append(match[1])
        elif match := _INSTRUCTION.match(line):
            address = int(match[1], 16)
            code.labels |= dict.fromkeys(pending, address)
            pending.clear()
            if match[3] != "NOP":
                found = _TARGET.match(match[4])
                conditional = bool(match[2] or (found and found[1]))
                into.append(Instruction(address, match[3], found and found[2], conditional))
    return kernels


def class_of(opcode: str) -> str:
    """ "LDG.128" for LDG.E.128.CONSTANT; "other" for what no class takes (moves mostly)."""
    base = opcode.partition(".")[0]
    if opcode.startswith("HFMA2.MMA"):
        return "half"
    for name, pattern in CLASSES:
        if pattern.match(base):
            return f"{name}.{width_of(opcode)}" if name in _WIDE else name
    return "other"


def width_of(opcode: str) -> int:
    """Bits of a load or store for each thread; LDSM.4 gives each of them 4 x 32."""
    base, *modifiers = opcode.split(".")
    if base in ("LDSM", "STSM"):
        return 32 * int(modifiers[-1]) if modifiers[-1] in ("2", "4") else 32
    for modifier in modifiers:
        if found := re.fullmatch(r"[USB]?(8|16|64|128|256)", modifier):
            return int(found[1])
    return 32


def count(instructions: list[Instruction]) -> dict[str, int]:
    found = Counter(class_of(i.opcode) for i in instructions)
    return dict(sorted(found.items()))


def calls(code: Code) -> dict[str, int]:
    """Calls by the name of what they call; "label": where warps that parted meet again (sm_80)."""
    names = (i.target or "indirect" for i in code.own if i.opcode.startswith("CALL"))
    names = ("label" if name.startswith(".L_") else name for name in names)
    return dict(sorted(Counter(map(_subroutine, names)).items()))


def inlined_divisions(code: Code) -> int:
    """Integer divisions in line: each begins with a reciprocal, rounded up, of its divisor."""
    return sum(bool(re.match(r"I2F\..*RP", i.opcode)) for i in code.own)


def loops(code: Code) -> list[dict]:
    """The loops, outer ones first: a branch backwards to a label, and all that lies between.

    "least" are the instructions of the shortest way through one turn, which inner loops may lie
    beside; a bound from below on what is issued. "around", of an inner loop: the same of the loop
    around it, on a way that passes it, without one turn of its own. "instructions" are all that lie
    in no inner loop, the counts of classes, too. No loops: the branch to itself behind the end, a
    trap, and code that was moved out of the way and comes back from behind.
    """
    ends: dict[int, int] = {}
    for i in code.own:
        begin = _branch_to(code, i)
        if begin is not None and begin < i.address:
            ends[begin] = max(ends.get(begin, 0), i.address)
    turns = {span: least_turn(code, *span) for span in ends.items()}
    spans = sorted((s for s, least in turns.items() if least), key=lambda s: (s[0], -s[1]))
    result = []
    for begin, end in spans:
        inner = [s for s in spans if s != (begin, end) and begin <= s[0] and s[1] <= end]
        own = [
            i
            for i in code.own
            if begin <= i.address <= end
            and not any(low <= i.address <= high for low, high in inner)
        ]
        outer = [s for s in spans if s != (begin, end) and s[0] <= begin and end <= s[1]]
        least = turns[begin, end]
        row: dict = {"depth": len(outer), "least": least, "instructions": len(own)}
        if outer:
            around = least_turn(code, *min(outer, key=lambda s: s[1] - s[0]), via=begin)
            row["around"] = max(0, around - least) if around else 0
        row |= {n: c for n, c in count(own).items() if n.startswith(_MARKERS)}
        result.append(row)
    return result


def _branch_to(code: Code, i: Instruction) -> int | None:
    return code.labels.get(i.target) if i.target and i.opcode.startswith("BRA") else None


def least_turn(code: Code, begin: int, end: int, via: int | None = None) -> int | None:
    """Instructions on the shortest way from `begin` back to it; a call counts as all it calls.

    via: an address that must lie on the way. None where there is no such way.
    """
    body = [i for i in code.own if begin <= i.address <= end]
    index = {i.address: n for n, i in enumerate(body)}
    sizes = {name: len(found) for name, found in code.subroutines.items()}
    queue, seen = [(0, 0, via is None)], set()
    while queue:
        passed, n, touched = heapq.heappop(queue)
        if n >= len(body):
            continue
        i = body[n]
        touched |= i.address == via
        if (n, touched) in seen:
            continue
        seen.add((n, touched))
        passed += 1
        if i.opcode.startswith("CALL"):
            passed += sizes.get(_subroutine(i.target or ""), 0)
        to = _branch_to(code, i)
        if to == begin:
            if touched:
                return passed
        elif to in index:
            heapq.heappush(queue, (passed, index[to], touched))
        if i.conditional or not i.opcode.startswith(("BRA", "EXIT", "RET")):
            heapq.heappush(queue, (passed, n + 1, touched))
    return None


def _subroutine(target: str) -> str:
    """The compiler's $__internal_N_$ off the name."""
    return re.sub(r"^\$__internal_\d+_\$", "", target)
