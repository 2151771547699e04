"""What the kernels are to reach on a GPU, as figures of the raw results of the benchmarks.

Each function yields figures; a goal is "<= 1.5", ">= 1000" or "". What the first run on a GPU was
to reach stands beside what is to be reached since. A benchmark that did not run yields nothing:
`figures` then has the names in EXPECTED without a value.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import NamedTuple


class Figure(NamedTuple):
    """A value and its goals: now, and at the first run, where that was another."""

    name: str
    value: float | None
    unit: str = ""
    goal: str = ""
    first_goal: str | None = None


_COMPARE = {"<=": operator.le, ">=": operator.ge}
FALLS_BACK = 1.5  # slower than this many times itself, cuDNN has no fast deterministic algorithm
SIGMAS = ["80/13", "60/5", "67/3", "50/3"]
ONE_IMAGE_MS = dict(zip(SIGMAS, (0.9, 1.1, 1.4, 1.4), strict=True))  # 375x500, 21 labels
IN_BATCHES = dict(zip(SIGMAS, (2000, 1500, 1200, 1100), strict=True))  # images/s, batches of 16
LARGE = {"80/13": 200, "60/5": 150}  # images/s, 1024x2048, 19 labels


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
        if "batch" not in result:
            yield from crf_by_threads(result)
            continue
        case, batch = result["case"], result["batch"]
        if (case["height"], case["labels"]) not in {(375, 21), (1024, 19)}:
            continue
        name, sigmas = f"crf {result['name']}", result["name"].split()[1]
        whole = _fastest(result, "graph", "whole")
        small = case["height"] == 375
        if batch == 1 and small and (replay := _median(result, "graph")):
            goal = f"<= {ONE_IMAGE_MS[sigmas]}"
            yield Figure(f"{name}, one image by graph replay", 1e3 * replay, "ms", goal, "<= 1.5")
        if batch == 1 and small and (eager := _median(result, "whole")):
            yield Figure(f"{name}, one image, eager", 1e3 * eager, "ms")
        if whole and (batch > 1 or not small):
            goal, first = f">= {(IN_BATCHES if small else LARGE)[sigmas]}", ">= 1000"
            goals = ("", "") if small and batch < 16 else (goal, first if small else ">= 60")
            yield Figure(f"{name}, batch {batch}", batch / whole, "images/s", *goals)
        if batch == 1 and (build := _fastest(result, "build graph", "build")):
            goals = ("<= 0.2", "<= 0.3") if small else ("", "")
            yield Figure(f"{name}, lattice build", 1e3 * build, "ms", *goals)
        if "ratio" in result:
            yield Figure(f"{name}, against pydensecrf", result["ratio"], "x", ">= 300")


def crf_by_threads(result: dict) -> Iterator[Figure]:
    """On the CPU: the time of each number of threads, and the ratio to pydensecrf where it ran."""
    case = "{height}x{width}x{labels} {sigma_alpha:g}/{sigma_beta:g}".format(**result["case"])
    for timing in result["timings"]:
        if timing.startswith("whole "):
            name = f"crf {case} on the CPU, threads: {timing.removeprefix('whole ')}"
            yield Figure(name, 1e3 * result["timings"][timing]["median"], "ms")
            if timing in result["ratios"]:
                yield Figure(f"{name}, beside pydensecrf", result["ratios"][timing], "x")


# what a timing's name ends with, and a figure's: as users call it, and without Python's part of it
HOW = {"": "", " graph": ", both by graph replay"}
LAYOUTS = {"fused": "contiguous", "fused_cl": "channels_last"}


def aspp(raw: dict) -> Iterator[Figure]:
    """Each layout of the head against the better layout of four conv2d."""
    for result in raw["results"]:
        if result["part"] != "head":
            continue
        what = "batch {batch}, {size}x{size} {dtype} {passes}".format(**result)
        for how, said in HOW.items():
            plain = _fastest(result, f"conv{how}", f"conv_cl{how}")
            goals = (">= 3" if how else ">= 1", ">= 3")
            goals = goals if result["passes"] == "inference" else ("", "")
            for fused, layout in LAYOUTS.items():
                own = _median(result, f"{fused}{how}")
                if own and plain:
                    name = f"ASPP head {what} {layout}, against four conv2d{said}"
                    yield Figure(name, plain / own, "x", *goals)


ALGORITHMS = ("aten", "im2col", "space_to_batch", "direct")
DETERMINISTIC = ("aten_deterministic", "im2col", "direct")


def conv(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        case = result["case"]
        what = "batch {batch}, {size}x{size} {dtype} {layout}".format(**case)
        name = f"atrous_conv2d {case['layer']['name']}, {what}, auto against cuDNN"
        for how, said in HOW.items():
            auto, aten = _median(result, f"auto{how}"), _median(result, f"aten{how}")
            if auto and aten:
                yield Figure(f"{name}{said}", aten / auto, "x", ">= 0.95")
        aten = _median(result, "aten")
        steady, aten_steady = (_median(result, f"{n}_deterministic") for n in ("auto", "aten"))
        if aten and steady and aten_steady:
            goal = ">= 2" if aten_steady > FALLS_BACK * aten else ""
            yield Figure(f"{name}, deterministic", aten_steady / steady, "x", goal)
        name = name.replace("cuDNN", "the best algorithm")
        for own, said, others in (
            ("auto", "", ALGORITHMS),
            ("auto_deterministic", ", deterministic", DETERMINISTIC),
        ):
            auto, best = _median(result, own), _fastest(result, *others)
            if auto and best:
                yield Figure(f"{name}{said}", best / auto, "x", ">= 0.95", "")


def space_to_batch(raw: dict) -> Iterator[Figure]:
    for op in ("space_to_batch", "batch_to_space"):
        for last, layout in ((False, "contiguous"), (True, "channels_last")):
            shares = [
                r["of_copy"]
                for r in raw["results"]
                if r["op"] == op and r["channels_last"] == last and r["of_copy"]
            ]
            if shares:
                name = f"{op} {layout}, of a copy's bandwidth"
                yield Figure(f"{name}, the slowest case", min(shares), "", ">= 0.8")
                yield Figure(f"{name}, the fastest case", max(shares))


def permutohedral(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        name = "permutohedral_filter {} {}, C = {channels}".format(
            "x".join(map(str, result["size"])), result["sigmas"], **result
        )
        yield Figure(name, 1e3 * result["timings"]["ours"]["median"], "ms")
        if "ratio" in result:
            yield Figure(f"{name}, against MONAI's", result["ratio"], "x", ">= 10")


def e2e(raw: dict) -> Iterator[Figure]:
    for result in raw["results"]:
        case, timings = result["case"], result["timings"]
        whole = _fastest(result, *(name for name in timings if name.startswith("predict")))
        if whole is None:
            continue
        layout = " channels_last" if case["channels_last"] else ""
        name = f"{case['net']} {case['size']} {case['dtype']}{layout}, CRF, batch {case['batch']}"
        main = case["net"] == "deeplab_resnet101_aspp" and case["size"] == 513
        main = main and case["dtype"] == "bfloat16" and case["channels_last"]
        if case["batch"] == 1:
            goals = ("<= 6", "<= 15") if main else ("", "")
            yield Figure(name, 1e3 * whole, "ms", *goals)
        else:
            goals = (">= 350", ">= 100") if main and case["batch"] == 8 else ("", "")
            yield Figure(name, case["batch"] / whole, "images/s", *goals)


def variants(raw: dict) -> Iterator[Figure]:
    """How many times as fast as the default the fastest choice of a switch is."""
    for result in raw["results"]:
        medians = {choice: t["median"] for choice, t in result["timings"].items()}
        if medians:
            default, best = next(iter(medians)), min(medians, key=medians.__getitem__)
            name = f"variant {result['switch']}, {result['case']}: {best} against {default}"
            yield Figure(name, medians[default] / medians[best], "x")


# benchmark -> its figures, and what has to be among their names for the list to be whole
FIGURES = {
    "bench_crf": crf,
    "bench_aspp": aspp,
    "bench_conv": conv,
    "bench_space_to_batch": space_to_batch,
    "bench_permutohedral": permutohedral,
    "bench_e2e": e2e,
    "bench_variants": variants,
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
    "auto against the best algorithm, deterministic",
    "space_to_batch contiguous, of a copy's bandwidth, the slowest case",
    "batch_to_space contiguous, of a copy's bandwidth, the slowest case",
    "deeplab_resnet101_aspp 513 bfloat16 channels_last, CRF, batch 1",
    "deeplab_resnet101_aspp 513 bfloat16 channels_last, CRF, batch 8",
]


def figures(raw: dict[str, dict]) -> list[dict]:
    """A row for each figure; those that no result gave have the value None."""
    rows = []
    for key, results in raw.items():
        if key.partition(" ")[0] not in FIGURES:
            continue  # results without figures of their own
        try:
            found = list(FIGURES[key.partition(" ")[0]](results))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # a benchmark that writes other results now: the figures of the others still count
            found = [Figure(f"{key}: results not understood, {error!r}", None)]
        taken = {row["name"] for row in rows}
        for figure in found:  # of the same work under other conditions, which the step's name says
            twice = figure.name in taken
            named = f"{figure.name} ({key.partition(' ')[2]})" if twice else figure.name
            rows.append(_row(figure._replace(name=named)))
    for expected in EXPECTED:
        if not any(expected in row["name"] for row in rows):
            rows.append(_row(Figure(expected, None)))
    return rows


def _row(figure: Figure) -> dict:
    first = figure.goal if figure.first_goal is None else figure.first_goal
    reached = {"met": met(figure.value, figure.goal), "first_met": met(figure.value, first)}
    return figure._asdict() | {"first_goal": first} | reached
