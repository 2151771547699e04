"""What the kernels of the dense CRF move and compute; the files of csrc/cuda say how they work.

Sizes of arrays in bytes, of all images of a batch; float32. Hash probes beyond the first, and the
keys of neighbours that are found, are left out: the photograph decides their number.
"""

from __future__ import annotations

from dataclasses import replace

from _lattice_costs import Lattice, build_costs, lattice_bytes
from _roofline import SECTOR, WARP, Cost, Issue, Phase

MOST_OWN = 3  # kMostOwn of mean_field_chunks.cuh


def splat_costs(lat: Lattice, width: int, values: bool) -> list[Cost]:
    """splat, join and the blurs of one filter; without values it splats ones."""
    chunk = 4 if width % 4 == 0 else 1
    threads, r, row = width // chunk, lat.replicas, 4 * width
    m = r * lat.vertices
    given = row * r * lat.images * lat.points if values else 0
    written = row * r * lat.pieces
    parts = row * r * max(0, lat.segments - lat.vertices)
    of_entries = r * lat.real * threads

    def issues(name: str, threads: float, more: str = "", **of_item) -> list[Issue]:
        kernel = f"permutohedral.cu {name}_kernel<float, {chunk}{more}>"
        return [Issue(kernel, threads, depth=2, **of_item)]

    ones = ", false" if values else ", true"
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
        Cost("join", 1, 4 * lat.vertices + parts, issues=issues("join", m * threads)),
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


def pass_cost(lattices: list[Lattice], points: int, width: int) -> Cost:
    """One pass over the points of a batch; without lattices only the softmax."""
    chunk = 4 if width % 4 == 0 else width
    chunks = width // chunk
    group = min(2, chunks)
    while group < WARP and group * MOST_OWN < chunks:
        group *= 2
    own = -(-chunks // group)
    threads = points * group
    sliced = [slice_bytes(lat, width, group) for lat in lattices]
    rows = 2 * 4 * width * points
    corners = sum(lat.corners for lat in lattices)
    issue = Issue(
        f"mean_field.cu mean_field_kernel<float, {chunk}, {own}>",
        threads,
        inner=("FFMA", threads * own * chunk * corners) if corners else None,
        middle=len(lattices),
        depth=1,
        least=False,  # the shortest way through the outer loop takes no softmax
    )
    terms = sum(lat.corners + 1 for lat in lattices)
    return Cost(
        "mean_field" if lattices else "mean_field, first",
        1,
        rows + sum(unique for unique, _ in sliced),
        asked=rows + sum(asked for _, asked in sliced),
        flops=width * points * (2 * terms + 5),
        issues=[issue],
    )


def iteration_bytes(lattices: list[Lattice], points: int, width: int) -> float:
    """Every array that an iteration touches, once."""
    total = 2.0 * 4 * width * points
    for lat in lattices:
        rows = 2 * lat.vertices + lat.pieces
        total += 16 * lat.real + 4 * width * lat.replicas * rows
        total += 8 * lat.vertices * lat.corners + 4 * lat.vertices
    return total


def crf_phases(
    batch: int, labels: int, pixels: int, vertices: tuple[int, int], iterations: int = 10
) -> list[Phase]:
    """Of a batch of images with as many vertices each; the spatial lattice serves them all.

    It is kept from the batch before, and not built.
    """
    width = labels if labels <= 2 else -(-labels // 4) * 4
    points = batch * pixels
    spatial = Lattice(pixels, 2, 1, vertices[0], replicas=batch)
    bilateral = Lattice(pixels, 5, batch, batch * vertices[1])
    both = [spatial, bilateral]
    of_labels, rows = 4 * labels * points, 4 * width * points
    # 256 threads turn a tile of 32 points over, each of them 4 lines of 32 labels
    turns = points * 8 * -(-width // 32)
    to_rows, to_labels = (
        Issue(f"mean_field_rows.cu {name}_kernel<float>", turns, depth=2, least=False)
        for name in ("labels_to_rows", "rows_to_labels")
    )
    build = [*build_costs(bilateral, "bilateral"), *mass_costs(bilateral, "bilateral")]
    build.append(Cost("labels_to_rows", 1, of_labels + rows, new=of_labels, issues=[to_rows]))
    shared = zip(*(splat_costs(lat, width, values=True) for lat in both), strict=True)
    iteration = [one + other for one, other in shared]
    iteration.append(pass_cost(both, points, width))
    first = pass_cost([], points, width)
    last = Cost("rows_to_labels", 1, of_labels + rows, new=of_labels, issues=[to_labels])
    return [
        Phase("build", 1, lattice_bytes(bilateral) + of_labels + rows, build),
        Phase("inference", 1, 2 * rows, [first]),
        Phase("inference", iterations, iteration_bytes(both, points, width), iteration),
        Phase("inference", 1, of_labels + rows, [last]),
    ]
