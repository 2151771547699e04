"""The table by which atrous_conv2d chooses on CUDA, against the measurements it is made from."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from deeplab_native.ops import _conv_choice as choice

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
conv_table = importlib.import_module("conv_table")

ALGORITHMS = ("aten", "im2col", "space_to_batch", "direct")
MEASURED = [
    pytest.param(content["machine"], row, id=f"{name}-{row['layer']}-{row['batch']}")
    for name, content in conv_table.measured()
    for row in content["rows"]
]


def test_the_table_is_what_the_script_makes():
    made = conv_table.table(list(conv_table.measured()))
    assert conv_table.TABLE.read_text() == made
    # the one that is installed: another file, unless the installation is an editable one
    assert Path(choice.__file__).with_name("_conv_measured.json").read_text() == made


def problem_of(machine, row, same_bits):
    return choice.Problem(
        tuple(machine["capability"]),
        *(row["dtype"], row["layout"], row["backward"], same_bits),
        *(row["channels"], row["filters"], conv_table.KERNEL, row["rate"]),
        *(row["size"], row["size"], row["batch"]),
    )


@pytest.mark.parametrize("machine, row", MEASURED)
def test_never_far_behind_the_best_single_algorithm(machine, row):
    times = row["ms"]
    chosen = choice.measured_choice(problem_of(machine, row, same_bits=False))
    best = min(times[name] for name in ALGORITHMS if name in times)
    assert best / times["aten" if chosen == "auto" else chosen] >= 0.95

    chosen = choice.measured_choice(problem_of(machine, row, same_bits=True))
    steady = dict(times, aten=times["aten_deterministic"])
    best = min(steady[name] for name in ALGORITHMS if name in steady)
    assert best / steady["aten" if chosen == "auto" else chosen] >= 0.95

    last = problem_of(machine, row, same_bits=True)._replace(layout="channels_last")
    chosen = choice.measured_choice(last)
    time = times["aten_cl_deterministic" if chosen == "auto" else chosen]
    assert time < 1.0  # and not 14 to 22 ms


def test_most_rows_are_there():
    assert len(MEASURED) >= 30
    gains = [
        row.values[1]["ms"]["aten"] / row.values[1]["ms"]["space_to_batch"]
        for row in MEASURED
        if choice.measured_choice(problem_of(*row.values, same_bits=False)) == "space_to_batch"
    ]
    assert len(gains) == 6 and max(gains) > 3 and min(gains) > 1.2


def result(layout="contiguous", **medians):
    layer = {"name": "fc6", "channels": 8, "filters": 4, "rate": 2}
    case = {"layer": layer, "size": 9, "batch": 3, "dtype": "float32", "layout": layout}
    return {"case": case, "timings": {name: {"median": 1e-3 * ms} for name, ms in medians.items()}}


def table_of(*results, **options):
    machine = {"gpu": "G", "torch": "2", "date": "2026-01-01T00:00", "commit": "c"}
    raw = {"machine": machine, "arguments": {"backward": True}, "results": list(results)}
    short = json.loads(conv_table.compact(raw, capability="8.6", **options))
    return json.loads(conv_table.table([("conv_x.json", short)]))


def test_from_results_to_rows():
    table = table_of(
        result(aten=1.04, direct=1.0, aten_deterministic=2.0, im2col=0.5),
        commit="d",
    )
    assert table["measured"][0]["commit"] == "d"
    kind, shape = [[8, 6], "float32", "contiguous", True], [8, 4, 3, 2, 9, 3]
    assert table["rows"] == [[*kind, False, *shape, "im2col"], [*kind, True, *shape, "direct"]]
    assert len(table["columns"]) == len(table["rows"][0])


def test_a_choice_is_worth_it():
    assert [row[-1] for row in table_of(result(aten=1.05, direct=1.0))["rows"]] == ["auto"]
    assert [row[-1] for row in table_of(result(aten=1.06, direct=1.0))["rows"]] == ["direct"]
    # the same layer twice: the middle of both
    twice = table_of(result(aten=1.0, direct=0.9), result(aten=1.0, direct=1.08))
    assert [row[-1] for row in twice["rows"]] == ["auto"]


def test_what_was_measured_in_its_layout_counts():
    slow = result(aten_cl=9.0, space_to_batch=1.0)
    (row,) = table_of(slow, renamed={"aten_cl": "aten_cl_deterministic"})["rows"]
    assert (row[2], row[4], row[-1]) == ("channels_last", True, "space_to_batch")
    own = result("channels_last", aten_deterministic=1.0, space_to_batch=2.0)
    for results in ((slow, own), (own, slow)):
        rows = table_of(*results, renamed={"aten_cl": "aten_cl_deterministic"})["rows"]
        assert [row[-1] for row in rows] == ["auto"]


def test_results_without_a_capability():
    raw = {"machine": {}, "arguments": {}, "results": []}
    with pytest.raises(SystemExit, match="name no compute capability"):
        conv_table.compact(raw)
