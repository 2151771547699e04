"""The arithmetic of the roofline, on cases small enough to count by hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
roofline = importlib.import_module("_roofline")
crf = importlib.import_module("_crf_costs")
lattice = importlib.import_module("_lattice_costs")
field = importlib.import_module("_mean_field_costs")
conv = importlib.import_module("_conv_costs")

ROUND = roofline.Ceilings(
    device=1e12, l2=4e12, l1=8e12, l2_bytes=1000, fp32=1e12, tensor16=1e12, issue=1e12, launch=2e-6
)


def no_loops(kernel):
    return None


# ---- the lattice ----
@pytest.fixture
def spatial():
    """40 points in 2 blocks of a warp, 3 corners each, for the values of 2 images."""
    return lattice.Lattice(points=40, d=2, images=1, vertices=10, replicas=2)


def test_sizes(spatial):
    assert (spatial.entries, spatial.real, spatial.segments) == (2 * 3 * 32, 120, 4)
    assert (spatial.record_bytes, spatial.table_bytes) == (8, 4 * (192 + 96 + 1))
    assert (spatial.touched, spatial.pieces) == (10 * 32, 10)
    assert (spatial.chunks, spatial.passes(10), spatial.digit_bits) == (1, 1, 4)  # 10 <= 2^4
    bilateral = lattice.Lattice(points=40, d=5, images=3, vertices=500)
    assert (bilateral.entries, bilateral.real) == (3 * 2 * 6 * 32, 3 * 240)
    assert (bilateral.record_bytes, bilateral.chunks) == (32, 3)
    assert (bilateral.passes(2**11), bilateral.passes(2**11 + 1)) == (1, 2)
    assert lattice.Lattice(points=9000, d=5, images=2, vertices=2 * 5000).digit_bits == 7  # 13 bits
    assert bilateral.touched == bilateral.table_bytes == 4 * 3 * (384 + 192 + 1)


def test_building(spatial):
    costs = {c.kernel.partition(" ")[2]: c for c in lattice.build_costs(spatial, "spatial")}
    assert list(costs) == [
        "features",
        "embed",
        "insert",
        "count codes",
        "sum codes",
        "place codes",
        "number",
        "sort",
        "rows",
    ]
    unique = {name: cost.unique for name, cost in costs.items()}
    e, records, codes, digits = 192 * 4, 64 * 8, 1024, 16
    assert unique["features"] == 40 * 2 * 4
    # weights and records; the table is cleared
    assert unique["embed"] == 40 * 2 * 4 + e + records + 289 * 4
    assert unique["insert"] == records + 320 + e
    # slots, of 10 vertices a record (a sector each), the counts of one chunk
    assert unique["count codes"] == 2 * e + 320 + 320 + 4 * codes
    assert unique["sum codes"] == 2 * 4 * codes
    # codes; slots of vertices, which get these, the entry of a vertex, and no neighbours on 3 axes
    assert unique["place codes"] == e + 4 * codes + 320 + 320 + 40 + 3 * 10 * 8
    # reads slots, writes vertices; 10 entries, their records, of the table 3 sectors of each
    neighbours = 40 + 320 + 3 * 10 * 32 + 3 * 10 * 8
    assert unique["number"] == 2 * e + 320 + 4 * digits + neighbours
    # one pass: vertices and weights, a row's vertex, point and weight, 16 counts three times
    assert unique["sort"] == 2 * e + 12 * 120 + 3 * 4 * digits and costs["sort"].launches == 2
    assert unique["rows"] == 4 * 120 + 40 + 40


def test_sorting_in_two_passes():
    one = lattice.Lattice(points=9000, d=5, images=1, vertices=5000)
    sort = next(c for c in lattice.build_costs(one, "b") if c.kernel == "b sort")
    e, counts = 4 * 282 * 32 * 6, 27 * 2**7
    assert sort.launches == 5
    # an item of 16 bytes is written, counted and put in place
    assert sort.unique == 2 * e + (3 * 16 + 12) * 54000 + 2 * 3 * 4 * counts


def test_filtering(spatial):
    splat, join, blur = crf.splat_costs(spatial, width=4, values=True)
    row = 4 * 4
    # 8 bytes of each entry, the vertex of each row, the values of 2 x 40 points, 2 x 10 rows
    assert splat.unique == 8 * 120 + 4 * 10 + 2 * 40 * row + 2 * 10 * row
    assert splat.asked == 32 * 2 * (120 + 10) + 2 * 120 * row + 2 * 10 * row
    assert splat.flops == 2 * 4 * 2 * 120
    # where 10 rows begin, a sector of each of 4 segments; fewer of these: no parts at the least
    assert join.unique == 4 * 10 + 4 * 32
    assert join.asked == 2 * (4 * 10 + 3 * 4 * 32) and join.issues[0].threads == 2 * 4
    # two axes at once and the third: every row read and written, the neighbours of the lattice once
    assert blur.launches == 2 and blur.unique == 2 * 2 * 20 * row + 3 * 8 * 10
    # 9 rows read for one of two axes, 3 for one of the third; pairs of neighbours, two in sectors
    assert blur.asked == 20 * (9 + 1) * row + 20 * (8 + 8 + 64) + 20 * ((3 + 1) * row + 8)
    assert blur.flops == 4 * 4 * 20 * (3 + 1 + 1)


def test_splat_of_long_rows():
    few = lattice.Lattice(points=320, d=2, images=1, vertices=2)
    assert (few.segments, few.pieces) == (30, 30)
    splat, join, _ = crf.splat_costs(few, width=1, values=False)
    assert splat.unique == 8 * 960 + 4 * 2 + 4 * 30
    assert join.unique == 4 * 2 + 32 * 30 + 4 * 28


def test_a_pass(spatial):
    cost = field.pass_cost([spatial], points=80, width=4)
    row = 4 * 4
    # unary and result, both weights of an entry, the rows of both images
    assert cost.unique == 2 * 80 * row + 8 * 120 + 2 * 10 * row
    # one thread has a point: 32 points read 128 bytes of an array at once
    assert cost.asked == 2 * 80 * row + 2 * 2 * 4 * 120 + 2 * 120 * row
    assert cost.flops == 4 * 80 * (2 * 4 + 5)
    wide = field.pass_cost([spatial], points=80, width=24)  # 2 threads with 3 chunks a point
    assert wide.issues[0].threads == 2 * 80 and wide.issues[0].kernel.endswith(
        "<float, 4, 3, float>"
    )
    assert wide.asked - 2 * 80 * 96 - 2 * 120 * 96 == 2 * 2 * 4 * 120
    wider = field.pass_cost([spatial], points=80, width=200)  # 50 chunks: 32 threads a point
    assert wider.asked - 2 * 80 * 800 - 2 * 120 * 800 == 2 * 2 * 32 * 120
    assert field.pass_cost([], points=80, width=4).unique == 2 * 80 * row


def test_phases():
    phases = field.crf_phases(batch=2, labels=3, pixels=40, vertices=(10, 20), iterations=5)
    assert [(p.name, p.repeats) for p in phases] == [
        ("build", 1),
        ("inference", 1),
        ("inference", 5),
        ("inference", 1),
    ]
    assert [c.kernel for c in phases[2].costs] == ["splat", "join", "blur", "mean_field"]
    assert phases[2].costs[2].launches == 3  # of both lattices at once
    assert not any("spatial" in c.kernel for c in phases[0].costs)  # it is kept
    to_rows = phases[0].costs[-1]
    assert (to_rows.unique, to_rows.new) == (4 * 80 * (3 + 4), 4 * 80 * 3)


def test_hot_labels(spatial):
    """3 chunks in the first update and 1 in the 4 others, of 20 labels."""
    phases = field.crf_phases(2, 20, 40, (10, 20), iterations=5, hot=(3, 1))
    names = [[c.kernel for c in p.costs] for p in phases[1:]]
    update = ["splat", "join", "blur", "mean_field"]
    assert names == [["label_most", "order"], update, update, ["rows_to_labels"]]
    assert [p.repeats for p in phases] == [1, 1, 1, 4, 1]
    most, order = phases[1].costs
    assert (most.unique, order.unique) == (80 * 80, 3 * 80 * 80 + 5 * 4 * 80)
    splat = phases[3].costs[0]
    assert splat.issues[0].kernel.endswith("splat_kernel<float, 4, false, true, float>")
    cost = field.hot_pass_cost([spatial], points=80, width=20, hot=1)
    # a sector of -U, 16 bytes of q, two logs; weights and vertices, rows of 16 bytes of both images
    assert cost.unique == 80 * (32 + 16 + 8) + 8 * 120 + 2 * 10 * 16
    wide = field.hot_pass_cost([spatial], points=80, width=24, hot=6)
    assert wide.issues[0].threads == 2 * 80
    assert wide.unique == 80 * (96 + 96 + 8) + 8 * 120 + 2 * 10 * 96


# ---- convolution ----
def test_convolution():
    c = conv.Conv(channels=64, filters=32, rate=2, size=4, batch=1, dtype="bfloat16")
    assert (c.map_bytes, c.weight_bytes, c.out_bytes) == (2 * 64 * 16, 2 * 9 * 64 * 32, 2 * 32 * 16)
    # of a line: 4 pixels under the middle tap, 2 under each other one
    assert c.valid == 8 * 8
    assert conv.taps_in_reach(c, 16) == 9 and conv.taps_in_reach(c, 4) == 3 * (2 + 4 + 2)
    library = conv.library_conv(c)
    assert library.tensor == ("tensor16", 2 * 64 * 32 * 9 * 16)
    assert library.unique == c.map_bytes + c.weight_bytes + c.out_bytes
    by_tap, product, add = conv.direct_costs(c)
    assert by_tap.unique == 2 * c.weight_bytes
    # one block of 64 x 64, 9 taps of a step, 128 bytes of each row and column; 4 warps of 32 x 32
    parts = 2  # 9 steps, 4 at least of each part
    assert product.asked == 9 * 128 * 128 + 4 * parts * 32 * 16
    assert product.shared == 9 * (4 * 64 + 128) * 128
    assert product.unique == c.map_bytes + c.weight_bytes + 4 * parts * 32 * 16
    assert add.unique == 4 * parts * 32 * 16 + c.out_bytes
    columns = conv.im2col_costs(c)[0]
    assert columns.unique == c.map_bytes + 9 * c.map_bytes


def test_direct_convolution_of_float32():
    c = conv.Conv(channels=64, filters=32, rate=2, size=4, batch=1, dtype="float32")
    by_tap, product, *_ = conv.direct_costs(c)
    assert by_tap.unique == 2 * c.weight_bytes
    # one narrow block of 128 x 32, 9 taps of 4 steps, 64 bytes of each row and column; 4 warps
    parts = 4  # 36 steps, 8 at least of each part
    assert product.asked >= 9 * 4 * 160 * 64 and product.shared == 9 * 4 * 4 * 64 * 64
    assert product.unique == c.map_bytes + c.weight_bytes + 4 * parts * 32 * 16


def test_taps_of_pixels_by_rectangle():
    c = conv.Conv(channels=64, filters=32, rate=12, size=41, batch=8, dtype="bfloat16")
    assert conv.taps_by_rectangle(c, 256, 8) < 0.8 * conv.taps_in_reach(c, 256)
    assert conv.taps_by_rectangle(c, 256, 8) >= c.valid / 256
    assert conv.taps_by_rectangle(c, 1, 1) == c.valid


def test_blocks():
    size = (1, 8, 3, 3)
    cost = conv.space_to_batch_cost(size, 2, "float32", channels_last=False, back=False)
    assert cost.unique == 4 * 8 * 9 + 4 * 8 * 4 * 4  # 2 x 2 blocks of 2 x 2
    back = conv.space_to_batch_cost(size, 2, "float32", channels_last=False, back=True)
    assert back.unique == 2 * 4 * 8 * 9
    # an item of two blocks to a turn
    assert cost.issues[0].threads == 8 * 16 / 2 and cost.issues[0].inner == ("STG.32", 8 * 16)
    assert back.issues[0].inner == ("LDG.32", 8 * 16)
    assert cost.shared == 4 * 8 * 9 + 3 * 4 * 8 * 16
    # rows of 2 words for the blocks' 16 pixels
    pixels = conv.space_to_batch_cost(size, 2, "float32", channels_last=True, back=False)
    assert pixels.issues[0].threads == 16 * 2


def test_head():
    costs = conv.aspp_costs(41, 1, "bfloat16", 2048, 21)
    product = next(c for c in costs if c.kernel.startswith("product"))
    # 33 taps, 21 filters filled up to 24: whole words of 16 bytes
    assert product.tensor == ("tensor16", 2 * 33 * 24 * 2048 * 41 * 41)
    assert product.new == 2 * 2048 * 41 * 41


# ---- bounds ----
def test_the_largest_part_bounds():
    phase = roofline.Phase("p", 3, 500, [roofline.Cost("k", 2, unique=400, asked=16e6, flops=1e6)])
    (row,) = roofline.bounds(phase, ROUND, no_loops)
    assert row.launches == 6 and row.device == 0  # L2 holds it all
    assert row.parts["fp32"] == pytest.approx(3 * 1)
    assert row.parts["L1"] == pytest.approx(3 * 2)
    assert (row.work_us, row.launch_us) == pytest.approx((6, 12))
    assert row.by == "launches" and row.floor_us == pytest.approx(18)
    assert row.uncached_us == pytest.approx(3 * 4)  # what is asked, from L2


def test_what_l2_cannot_hold():
    costs = [roofline.Cost("a", 1, unique=3000), roofline.Cost("b", 1, unique=1000, new=900)]
    phase = roofline.Phase("p", 1, 3000, costs)
    a, b = roofline.bounds(phase, ROUND, no_loops)
    assert a.device == pytest.approx(3000 * 2000 / 4000)
    assert b.device == 900  # more than its share of 500


def test_two_in_one_launch():
    one, two = roofline.Cost("k", 3, 10, flops=1), roofline.Cost("k", 6, 20, asked=50, flops=2)
    both = one + two
    assert (both.launches, both.unique, both.asked, both.flops) == (6, 30, 60, 3)


LOOPS = [
    {"depth": 0, "least": 40, "instructions": 50, "STG.128": 4},
    {"depth": 0, "least": 30, "instructions": 90},
    {"depth": 1, "least": 20, "instructions": 60, "around": 35, "FFMA": 9, "STG.32": 2},
    {"depth": 2, "least": 12, "instructions": 12, "around": 18, "FFMA": 4},
    {"depth": 2, "least": 12, "instructions": 12, "around": 16, "FFMA": 4},
]


@pytest.mark.parametrize(
    "issue, expected",
    [
        ({}, 64 * 30),  # the loop with the most code
        ({"least": False}, 64 * 90),
        ({"marker": "STG.128"}, 64 / 4 * 40),
        ({"inner": ("STG.32", 128)}, 64 * 35 + 128 / 2 * 20),
        (
            {"inner": ("FFMA", 128), "middle": 2, "least": False},
            64 * 90 + 64 * 2 * 16 + 128 / 4 * 12,
        ),
        ({"inner": ("FFMA", 128), "depth": 1}, 64 * 16 + 128 / 4 * 12),
    ],
)
def test_instructions(issue, expected):
    assert roofline.instructions(LOOPS, roofline.Issue("k", 64, **issue)) == expected / 32


def test_instructions_of_other_code():
    assert roofline.instructions(None, roofline.Issue("k", 64)) is None
    assert roofline.instructions(LOOPS, roofline.Issue("k", 64, inner=("HMMA", 1))) is None
    assert roofline.instructions(LOOPS, roofline.Issue("k", 64, marker="LDG.32")) is None
