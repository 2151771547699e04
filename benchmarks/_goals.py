"""What the kernels are to reach on a GPU, as figures of the raw results of the benchmarks.

Each function yields (name, value, unit, goal); the goal is "<= 1.5", ">= 1000" or "". A benchmark
that did not run yields nothing: `figures` then has the names in EXPECTED without a value.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

Figure = tuple[str, float, str, str]

_COMPARE = {"<=": operator.le, ">=": operator.ge}
FALLS_BACK = 1.5  # slower than this many times itself, cuDNN has no fast deterministic algorithm
SIGMAS = ["80/13", "60/5", "67/3", "50/3"]


def met(value: float | None, goal: str) -> bool | None:
    """Whether a value reaches a goal; None where there is no value or no goal."""
    if value is None or not goal:
        return None
    sign, _, bound = goal.partition(" ")
    return bool(_COMPARE[sign](value, float(bound)))


def _median(result: dict, name: str) -> float | None:
    return result["timings"].get(name, {}).get("median")


def _fastest(result: dict, *names: str) -> float | None:
    return min((t for n in names if (t := _median(result, n))), default=None)


def crf(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        case, batch = result["case"], result.get("batch", 1)
        if (case["height"], case["labels"]) not in {(375, 21), (1024, 19)}:
            continue
        name = f"crf {result['name']}"
        whole = _fastest(result, "graph", "whole")
        small = case["height"] == 375
        if batch == 1 and small and (replay := _median(result, "graph")):
            yield f"{name}, one image by graph replay", 1e3 * replay, "ms", "<= 1.5"
        if whole and (batch > 1 or not small):
            goal = "" if small and batch < 16 else ">= 1000" if small else ">= 60"
            yield f"{name}, batch {batch}", batch / whole, "images/s", goal
        if batch == 1 and (build := _fastest(result, "build graph", "build")):
            yield f"{name}, lattice build", 1e3 * build, "ms", "<= 0.3" if small else ""
        if "ratio" in result:
            yield f"{name}, against pydensecrf", result["ratio"], "x", ">= 300"


# what a timing's name ends with, and a figure's: as users call it, and without Python's part of it
HOW = {"": "", " graph": ", both by graph replay"}


def aspp(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        if result["part"] != "head":
            continue
        what = "batch {batch}, {size}x{size} {dtype} {passes}".format(**result)
        goal = ">= 3" if result["passes"] == "inference" else ""
        for how, said in HOW.items():
            fused = _fastest(result, f"fused{how}", f"fused_cl{how}")
            plain = _fastest(result, f"conv{how}", f"conv_cl{how}")
            if fused and plain:
                yield f"ASPP head {what}, against four conv2d{said}", plain / fused, "x", goal


def conv(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        case = result["case"]
        what = "batch {batch}, {size}x{size} {dtype} {layout}".format(**case)
        name = f"atrous_conv2d {case['layer']['name']}, {what}, auto against cuDNN"
        for how, said in HOW.items():
            auto, aten = _median(result, f"auto{how}"), _median(result, f"aten{how}")
            if auto and aten:
                yield f"{name}{said}", aten / auto, "x", ">= 0.95"
        aten = _median(result, "aten")
        steady, aten_steady = (_median(result, f"{n}_deterministic") for n in ("auto", "aten"))
        if aten and steady and aten_steady:
            falls_back = aten_steady > FALLS_BACK * aten
            yield f"{name}, deterministic", aten_steady / steady, "x", ">= 2" if falls_back else ""


def space_to_batch(raw: dict) -> Iterator[Figure]:
    for op in ("space_to_batch", "batch_to_space"):
        worst = min(r["of_copy"] for r in raw["results"] if r["op"] == op)
        yield f"{op}, the slowest case, of a copy's bandwidth", worst, "", ">= 0.8"


def permutohedral(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        name = "permutohedral_filter {} {}, C = {channels}".format(
            "x".join(map(str, result["size"])), result["sigmas"], **result
        )
        yield name, 1e3 * result["timings"]["ours"]["median"], "ms", ""
        if "ratio" in result:
            yield f"{name}, against MONAI's", result["ratio"], "x", ">= 10"


def e2e(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        case, whole = result["case"], _median(result, "predict")
        if whole is None:
            continue
        layout = " channels_last" if case["channels_last"] else ""
        name = f"{case['net']} {case['size']} {case['dtype']}{layout}, CRF, batch {case['batch']}"
        goal = case["net"] == "deeplab_resnet101_aspp" and case["size"] == 513
        goal = goal and case["dtype"] == "bfloat16" and case["channels_last"]
        if case["batch"] == 1:
            yield name, 1e3 * whole, "ms", "<= 15" if goal else ""
        else:
            fast = ">= 100" if goal and case["batch"] == 8 else ""
            yield name, case["batch"] / whole, "images/s", fast


# benchmark -> its figures, and what has to be among their names for the list to be whole
FIGURES = {
    "bench_crf": crf,
    "bench_aspp": aspp,
    "bench_conv": conv,
    "bench_space_to_batch": space_to_batch,
    "bench_permutohedral": permutohedral,
    "bench_e2e": e2e,
}
EXPECTED = [
    *(f"375x500x21 {s}, one image by graph replay" for s in SIGMAS),
    *(f"375x500x21 {s}, batch 16" for s in SIGMAS),
    *(f"375x500x21 {s}, lattice build" for s in SIGMAS),
    "1024x2048x19",
    "against pydensecrf",
    "against MONAI's",
    "against four conv2d",
    "auto against cuDNN",
    "auto against cuDNN, deterministic",
    "space_to_batch, the slowest case",
    "batch_to_space, the slowest case",
    "deeplab_resnet101_aspp 513 bfloat16 channels_last, CRF, batch 1",
    "deeplab_resnet101_aspp 513 bfloat16 channels_last, CRF, batch 8",
]


def figures(raw: dict[str, dict]) -> list[dict]:
    """A row for each figure; those that no result gave have the value None."""
    rows = []
    for key, results in raw.items():
        try:
            found = list(FIGURES[key.partition(" ")[0]](results))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # a benchmark that writes other results now: the figures of the others still count
            found = [(f"{key}: results not understood, {error!r}", None, "", "")]
        for name, value, unit, goal in found:
            row = {"name": name, "value": value, "unit": unit, "goal": goal}
            rows.append(row | {"met": met(value, goal)})
    for expected in EXPECTED:
        if not any(expected in row["name"] for row in rows):
            rows.append({"name": expected, "value": None, "unit": "", "goal": "", "met": None})
    return rows
