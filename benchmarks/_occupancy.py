"""How many warps of a kernel a multiprocessor can hold, and what limits them.

The limits are those of the CUDA programming guide, "Compute Capabilities": technical specifications
per compute capability.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32


@dataclass(frozen=True)
class Limits:
    """Of one multiprocessor; shared memory in bytes."""

    warps: int
    blocks: int
    registers: int
    shared: int
    shared_of_block: int  # what the driver itself keeps of each block
    register_unit: int = 256  # of a warp
    shared_unit: int = 128
    schedulers: int = 4  # registers are divided among them: warps come in fours


LIMITS = {
    "sm_80": Limits(64, 32, 65536, 164 * 1024, 1024),
    "sm_90": Limits(64, 32, 65536, 228 * 1024, 1024),
    "sm_100": Limits(64, 32, 65536, 228 * 1024, 1024),
}


def occupancy(arch: str, block: int, registers: int, shared: int) -> dict:
    """Warps and blocks of a multiprocessor, and what limits them ("warps": it holds no more)."""
    limits = LIMITS[arch]
    warps_of_block = -(-block // WARP)
    of_warp = -(-max(1, registers) * WARP // limits.register_unit) * limits.register_unit
    by_registers = limits.registers // limits.schedulers // of_warp * limits.schedulers
    of_block = -(-(shared + limits.shared_of_block) // limits.shared_unit) * limits.shared_unit
    most = {
        "warps": limits.warps // warps_of_block,
        "registers": by_registers // warps_of_block,
        "shared memory": limits.shared // of_block,
        "blocks": limits.blocks,
    }
    blocks = min(most.values())
    limit = next(name for name, count in most.items() if count == blocks)
    warps = blocks * warps_of_block
    return {"blocks": blocks, "warps": warps, "occupancy": warps / limits.warps, "limit": limit}
