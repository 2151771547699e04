"""What the kernels of the lattices move and compute; the files of csrc/cuda say how they work.

Sizes of arrays in bytes, of all images of a batch; float32. Hash probes beyond the first, and the
keys of neighbours that are found, are left out: the photograph decides their number.
"""

from __future__ import annotations

from dataclasses import replace

from _lattice_costs import Lattice
from _roofline import SECTOR, WARP, Cost, Issue


def splat_costs(lat: Lattice, width: int, values: bool, hot: bool = False) -> list[Cost]:
    """splat, join and the blurs of one filter; without values it splats ones.

    hot: of a mean field's hot labels, `width` of them.
    """
    chunk = 4 if width % 4 == 0 else 1
    threads, r, row = width // chunk, lat.replicas, 4 * width
    m = r * lat.vertices
    given = row * r * lat.images * lat.points if values else 0
    written = row * r * lat.pieces
    parts = row * r * max(0, lat.segments - lat.vertices)
    of_entries = r * lat.real * threads

    def issues(name: str, threads: float, more: str = "", **of_item) -> list[Issue]:
        kernel = f"permutohedral.cu {name}_kernel<float, {chunk}{more}, float>"
        return [Issue(kernel, threads, depth=2, **of_item)]

    ones = f", {str(not values).lower()}, {str(hot).lower()}"
    splat = issues("splat", r * lat.segments * threads, ones, inner=("LDG.64", of_entries))
    pairs, single = divmod(lat.corners, 2)  # of axes: a launch each
    blur = issues("blur", (pairs + single) * m * threads, marker=f"STG.{32 * chunk}")
    return [
        # neighbouring threads read an entry a segment apart: a sector each
        Cost(
            "splat",
            1,
            8 * lat.real + 4 * lat.vertices + given + written,
            asked=SECTOR * (r * lat.real + m) + (row * r * lat.real if values else 0) + written,
            flops=2 * width * r * lat.real,
            issues=splat,
        ),
        # which row a segment ends with is a sector of each; where rows begin, of all
        Cost(
            "join",
            1,
            4 * lat.vertices + SECTOR * lat.segments + parts,
            asked=4 * r * lat.vertices + 3 * SECTOR * r * threads * lat.segments + parts,
            issues=issues("join", r * lat.segments * threads),
        ),
        # along two axes: 9 rows read for each, and the neighbours of 2 that lie anywhere
        Cost(
            "blur",
            pairs + single,
            (pairs + single) * 2 * row * m + 8 * lat.vertices * lat.corners,
            asked=pairs * (10 * row + 16 + 2 * SECTOR) * m + single * (4 * row + 8) * m,
            flops=4 * width * m * (4 * pairs + single),
            issues=blur,
        ),
    ]


def slice_bytes(lat: Lattice, width: int, group: int) -> tuple[float, float]:
    """(unique, asked) of the weights, vertices and rows at every corner; `group` threads a point.

    A warp has few points: what it reads of their weights is a sector at least.
    """
    of_entry = max(4, SECTOR * group // WARP)
    rows = 4 * width * lat.replicas
    return (
        8 * lat.real + rows * lat.vertices,
        lat.replicas * 2 * of_entry * lat.real + rows * lat.real,
    )


def fold_cost(lat: Lattice, scaled: bool) -> Cost:
    scales = 8 * lat.images * lat.points if scaled else 0
    name = "fold_weights_kernel<float>"
    issue = Issue(f"permutohedral_weights.cu {name}", lat.entries, marker="STG.64", depth=1)
    return Cost("fold_weights", 1, 24 * lat.entries + scales, issues=[issue])


def mass_costs(lat: Lattice, kind: str) -> list[Cost]:
    """K 1 and the weights with its root: a filter of one channel, by the lattice's own weights."""
    ones = replace(lat, replicas=1)
    n = lat.images * lat.points
    unique, asked = slice_bytes(ones, 1, 1)
    name = "permutohedral_weights.cu scale_kernel"
    slice_ = Issue(name, n, inner=("FFMA", n * lat.corners), depth=2)
    costs = [
        *splat_costs(ones, 1, values=False),
        Cost("scale", 1, unique + 4 * n, asked + 4 * n, flops=2 * ones.real, issues=[slice_]),
        fold_cost(lat, scaled=True),
    ]
    return [replace(cost, kernel=f"{kind} {cost.kernel}") for cost in costs]
