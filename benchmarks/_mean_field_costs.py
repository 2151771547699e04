"""What the kernels of the mean field move and compute, and with the lattices the whole dense CRF.

Sizes of arrays in bytes, of all images of a batch; float32. How many labels are hot, the photograph
decides.
"""

from __future__ import annotations

from _crf_costs import mass_costs, slice_bytes, splat_costs
from _lattice_costs import Lattice, build_costs, lattice_bytes
from _roofline import SECTOR, WARP, Cost, Issue, Phase

MOST_OWN = 3  # kMostOwn of mean_field_chunks.cuh
CHUNK = 4  # labels, kHotChunk of hot_labels.cuh


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
        f"mean_field.cu mean_field_kernel<float, {chunk}, {own}, float>",
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


def hot_pass_cost(lattices: list[Lattice], points: int, width: int, hot: int) -> Cost:
    """One pass that works on `hot` chunks of the `width` labels."""
    channels = CHUNK * hot
    group = 1 if hot == 1 else 2
    while group < WARP and group * MOST_OWN < hot:
        group *= 2
    own = -(-hot // group)
    sliced = [slice_bytes(lat, channels, group) for lat in lattices]
    # -U in whole sectors; q; the logs of two sums
    rows = (min(4 * width, -(-4 * channels // SECTOR) * SECTOR) + 4 * channels + 8) * points
    corners = sum(lat.corners for lat in lattices)
    issue = Issue(
        "mean_field_hot.cu hot_mean_field_kernel<float>",
        points * group,
        inner=("FFMA", points * group * own * CHUNK * corners),
        middle=len(lattices),
        depth=1,
        least=False,
    )
    terms = sum(lat.corners + 1 for lat in lattices)
    return Cost(
        "mean_field",
        1,
        rows + sum(unique for unique, _ in sliced),
        asked=rows + sum(asked for _, asked in sliced),
        flops=channels * points * (2 * terms + 5),
        issues=[issue],
    )


def order_costs(points: int, width: int) -> list[Cost]:
    """The labels in their order: -U is read twice; written are -U, q and a log for each chunk."""
    rows = 4 * width * points
    name = "hot_labels.cu"
    return [
        Cost(
            "label_most",
            2,  # with the memset
            rows,
            flops=7 * width * points,
            issues=[Issue(f"{name} label_most_kernel", points, depth=1)],
        ),
        Cost(
            "order",
            1,
            3 * rows + rows // CHUNK,
            flops=7 * width * points,
            issues=[Issue(f"{name} order_kernel", points, depth=1)],
        ),
    ]


def iteration_bytes(lattices: list[Lattice], points: int, width: int) -> float:
    """Every array that an iteration touches, once."""
    total = 2.0 * 4 * width * points
    for lat in lattices:
        rows = 2 * lat.vertices + lat.pieces
        total += 16 * lat.real + 4 * width * lat.replicas * rows
        total += 8 * lat.vertices * lat.corners + 4 * lat.vertices
    return total


def crf_phases(
    batch: int,
    labels: int,
    pixels: int,
    vertices: tuple[int, int],
    iterations: int = 10,
    hot: tuple[int, int] | None = None,
) -> list[Phase]:
    """Of a batch of images with as many vertices each; the spatial lattice serves them all.

    It is kept from the batch before, and not built.

    hot: chunks of labels that the first update works on, and the later ones; else all of them.
    """
    width = labels if labels <= 2 else -(-labels // 4) * 4
    points = batch * pixels
    spatial = Lattice(pixels, 2, 1, vertices[0], replicas=batch)
    bilateral = Lattice(pixels, 5, batch, batch * vertices[1])
    both = [spatial, bilateral]
    of_labels, rows = 4 * labels * points, 4 * width * points
    # 256 threads turn a tile of 32 points over, each of them 4 lines of 32 labels
    turns = points * 8 * -(-width // 32)
    file, of_hot = ("hot_labels.cu hot_", "") if hot else ("mean_field_rows.cu ", "<float>")
    to_rows = Issue("mean_field_rows.cu labels_to_rows_kernel<float>", turns, depth=2, least=False)
    to_labels = Issue(f"{file}rows_to_labels_kernel{of_hot}", turns, depth=2, least=False)
    build = [*build_costs(bilateral, "bilateral"), *mass_costs(bilateral, "bilateral")]
    build.append(Cost("labels_to_rows", 1, of_labels + rows, new=of_labels, issues=[to_rows]))
    last = Cost("rows_to_labels", 1, of_labels + rows, new=of_labels, issues=[to_labels])

    def updates(count: int, chunks: int | None) -> Phase:
        channels = CHUNK * chunks if chunks else width
        shared = zip(
            *(splat_costs(lat, channels, values=True, hot=chunks is not None) for lat in both),
            strict=True,
        )
        costs = [one + other for one, other in shared]
        costs.append(
            hot_pass_cost(both, points, width, chunks) if chunks else pass_cost(both, points, width)
        )
        return Phase("inference", count, iteration_bytes(both, points, channels), costs)

    first = order_costs(points, width) if hot else [pass_cost([], points, width)]
    middle = [updates(1, hot[0]), updates(iterations - 1, hot[1])] if hot else []
    return [
        Phase("build", 1, lattice_bytes(bilateral) + of_labels + rows, build),
        Phase("inference", 1, (4 if hot else 2) * rows, first),
        *(middle or [updates(iterations, None)]),
        Phase("inference", 1, of_labels + rows, [last]),
    ]
