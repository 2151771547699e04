"""The figures of a GPU run, from results as the benchmarks write them."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
goals = importlib.import_module("_goals")


def timed(**medians):
    return {name: {"median": seconds} for name, seconds in medians.items()}


def conv_result(**medians):
    case = {"batch": 8, "size": 65, "dtype": "float32", "layout": "contiguous"}
    return {"case": {**case, "layer": {"name": "res4"}}, "timings": timed(**medians)}


def named(raw):
    return {row["name"]: row for row in goals.figures(raw)}


@pytest.mark.parametrize(
    "value, goal, expected",
    [(1.5, "<= 1.5", True), (1.6, "<= 1.5", False), (2, ">= 2", True), (1, "", None)],
)
def test_met(value, goal, expected):
    assert goals.met(value, goal) is expected
    assert goals.met(None, goal) is None


def test_convolution_against_cudnn():
    result = conv_result(aten=2.0, auto=1.0, aten_deterministic=8.0, auto_deterministic=2.0)
    rows = named({"bench_conv": {"results": [result]}})
    name = "atrous_conv2d res4, batch 8, 65x65 float32 contiguous, auto against cuDNN"
    assert (rows[name]["value"], rows[name]["met"]) == (2.0, True)
    steady = rows[f"{name}, deterministic"]
    assert (steady["value"], steady["goal"], steady["met"]) == (4.0, ">= 2", True)


def test_graph_replays_have_figures_of_their_own():
    graphs = {"aten graph": 1.0, "auto graph": 1.0}
    rows = named({"bench_conv": {"results": [conv_result(aten=2.0, auto=2.2, **graphs)]}})
    figures = {n.partition("auto against ")[2]: r["met"] for n, r in rows.items() if "res4" in n}
    assert figures == {
        "cuDNN": False,
        "cuDNN, both by graph replay": True,
        "the best algorithm": False,
    }
    head = {"part": "head", "batch": 1, "size": 41, "dtype": "bfloat16", "passes": "inference"}
    timings = {"conv": 3.0, "fused": 2.0, "conv_cl graph": 2.0, "conv graph": 3.0}
    timings |= {"fused graph": 1.0, "fused_cl graph": 0.5}
    rows = named({"bench_aspp": {"results": [{**head, "timings": timed(**timings)}]}})
    values = {n.partition("inference ")[2]: r for n, r in rows.items() if "head batch" in n}
    said = ", against four conv2d, both by graph replay"  # the better layout of conv2d
    expected = {
        "contiguous, against four conv2d": (1.5, ">= 1"),
        f"contiguous{said}": (2.0, ">= 3"),
        f"channels_last{said}": (4.0, ">= 3"),
    }
    assert {n: (r["value"], r["goal"]) for n, r in values.items()} == expected
    assert {r["first_goal"] for r in values.values()} == {">= 3"}


def test_auto_against_the_best_algorithm():
    """Of those that give the same bits every time where that is asked for."""
    medians = {"aten": 4.0, "im2col": 3.0, "direct": 2.0, "space_to_batch": 1.0, "auto": 2.0}
    steady = {"aten_deterministic": 9.0, "auto_deterministic": 2.0, "aten_benchmark": 0.1}
    rows = named({"bench_conv": {"results": [conv_result(**medians, **steady)]}})
    values = {
        n.partition("algorithm")[2]: r for n, r in rows.items() if "res4" in n and "best" in n
    }
    assert {n: (r["value"], r["met"]) for n, r in values.items()} == {
        "": (0.5, False),
        ", deterministic": (1.0, True),
    }


def test_there_is_no_goal_where_cudnn_does_not_fall_back():
    result = conv_result(aten=2.0, auto=2.0, aten_deterministic=2.5, auto_deterministic=2.0)
    rows = named({"bench_conv": {"results": [result]}})
    (steady,) = (row for name, row in rows.items() if "cuDNN, det" in name)
    assert steady["value"] == 1.25
    assert steady["name"].endswith("deterministic")
    assert steady["goal"] == "" and steady["met"] is None


def test_the_crf():
    case = {"height": 375, "labels": 21}
    one = {"name": "375x500x21 80/13", "case": case, "batch": 1, "ratio": 400.0}
    one["timings"] = timed(whole=3e-3, graph=1e-3, build=4e-4)
    many = {"name": "375x500x21 80/13", "case": case, "batch": 16, "timings": timed(whole=2e-2)}
    rows = named({"bench_crf": {"results": [one, many]}})
    crf = "crf 375x500x21 80/13"
    one = rows[f"{crf}, one image by graph replay"]
    assert (one["value"], one["met"], one["first_met"]) == (pytest.approx(1.0), False, True)
    assert rows[f"{crf}, one image, eager"]["value"] == pytest.approx(3.0)
    assert rows[f"{crf}, lattice build"]["met"] is False
    assert rows[f"{crf}, batch 16"]["value"] == pytest.approx(800)
    assert rows[f"{crf}, against pydensecrf"]["met"] is True


def test_the_crf_on_the_cpu():
    case = {"height": 375, "width": 500, "labels": 21, "sigma_alpha": 80, "sigma_beta": 13}
    timings = {f"{part} {n}": {"median": 0.08 / n} for part in ("whole", "build") for n in (1, 8)}
    result = {"case": case, "timings": timings, "ratios": {"whole 8": 40.0}}
    rows = named({"bench_crf on the CPU": {"results": [result]}})
    name = "crf 375x500x21 80/13 on the CPU, threads:"
    values = {n.removeprefix(name): r["value"] for n, r in rows.items() if n.startswith(name)}
    assert values == {" 1": pytest.approx(80), " 8": pytest.approx(10), " 8, beside pydensecrf": 40}


def test_variants_and_results_without_figures():
    timings = {"a": {"median": 2.0}, "b": {"median": 1.0}}
    result = {"switch": "s", "case": "c", "timings": timings}
    rows = named({"bench_variants": {"results": [result, result | {"timings": {}}]}, "other": {}})
    assert [(n, r["value"]) for n, r in rows.items() if r["value"]] == [
        ("variant s, c: b against a", 2.0)
    ]


def test_the_filter_beside_a_peer():
    result = {"size": [375, 500], "sigmas": "67/3", "channels": 16, "timings": timed(ours=5e-4)}
    name = "permutohedral_filter 375x500 67/3, C = 16"
    rows = named({"bench_permutohedral": {"results": [result]}})
    assert rows[name]["value"] == pytest.approx(0.5) and f"{name}, against MONAI's" not in rows
    rows = named({"bench_permutohedral": {"results": [result | {"ratio": 9.0}]}})
    assert rows[f"{name}, against MONAI's"]["met"] is False


def test_what_no_benchmark_gave_is_named():
    rows = named({})
    assert set(rows) == set(goals.EXPECTED)
    assert all(row["value"] is None and row["met"] is None for row in rows.values())


def test_results_of_another_form_cost_only_their_own_figures():
    rows = named({"bench_crf": {"results": [{}]}, "bench_conv": {"results": [conv_result()]}})
    assert any("results not understood" in name for name in rows)
