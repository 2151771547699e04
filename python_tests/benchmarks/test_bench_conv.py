"""What bench_conv.py measures, in which order, and what it leaves when it is ended early."""

import importlib
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("not a checkout", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))
bench_conv = importlib.import_module("bench_conv")
conv_cases = importlib.import_module("_conv_cases")
conv_table = importlib.import_module("conv_table")


def options(device, **changed):
    defaults = bench_conv.DEFAULTS_CUDA if device == "cuda" else bench_conv.DEFAULTS_CPU
    return Namespace(
        **{"device": device, "size": [41], "layers": "", "quick": False, **defaults, **changed}
    )


def test_on_a_gpu_expected_winners_come_first():
    found = conv_cases.cases(options("cuda"))
    layers = {(c.layer.channels, c.layer.filters, c.layer.rate) for c in found}
    assert len(found) == len(layers) * 4 * 2 * 4  # batches, layouts, dtypes: no layer twice
    last = [conv_cases.expected_last(case) for case in found]
    assert last == sorted(last) and 0 < last.count(False) < 150
    assert found[0].layer.name == "VGG LargeFOV fc6" and found[0].dtype == "bfloat16"
    # what was measured on an H200: auto's native choices are all expected
    (_, content), *_ = conv_table.measured()
    for row in content["rows"]:
        if "space_to_batch" in {choice for *_, choice in conv_table.choices(row)}:
            layer = conv_cases.Layer(*(row[k] for k in ("layer", "channels", "filters", "rate")))
            case = conv_cases.Case(layer, *(row[k] for k in ("size", "batch", "dtype", "layout")))
            assert not conv_cases.expected_last(case)


def test_on_the_cpu_every_layer_in_order():
    found = conv_cases.cases(options("cpu", dtype=["float32", "tfloat32"]))
    assert [case.layer for case in found] == conv_cases.LAYERS


def test_ended_early_it_leaves_what_it_has(tmp_path, monkeypatch, capsys):
    path = tmp_path / "conv.json"
    arguments = ["--layers", "res4", "--size", "5", "6", "--min-runs", "2", "--min-time", "0"]
    monkeypatch.setattr(
        sys, "argv", ["bench_conv.py", *arguments, "--minutes", "0", "--json", str(path)]
    )
    bench_conv.main()
    assert "1 of 2 cases were left out" in capsys.readouterr().out
    (result,) = json.loads(path.read_text())["results"]
    assert result["case"]["size"] == 5 and not result["case"]["backward"]
    assert {"aten", "auto", "im2col", "space_to_batch"} <= result["timings"].keys()


def test_a_variant_that_fails_is_left_out(monkeypatch):
    failing = bench_conv.Variant("fft")  # no such algorithm
    monkeypatch.setitem(bench_conv.VARIANTS, "direct", failing)
    case = conv_cases.cases(options("cpu", layers="res4", size=[5]))[0]
    args = Namespace(backward=False, variants=["aten", "direct"], min_runs=2, min_time=0)
    result = bench_conv.bench(case, args)
    assert list(result["timings"]) == ["aten"] and "'fft'" in result["errors"]["direct"]
    bench_conv.table([result, {**result, "timings": {"auto": result["timings"]["aten"]}}], "")
