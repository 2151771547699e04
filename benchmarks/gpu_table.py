"""The measured figures of a GPU as Markdown, and their place in README.md.

    python benchmarks/gpu_table.py                  # print it
    python benchmarks/gpu_table.py --update         # write it into README.md, between the markers

All of it comes from benchmarks/results/nvidia-<gpu>.json, which gpu_suite.py writes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
from pathlib import Path

from _suite_results import RESULTS

README = RESULTS.parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks/gpu_table.py -->", "<!-- end -->"
SIGMAS = "80/13, 60/5, 67/3, 50/3"
HEAD = r"ASPP head .* (bfloat16|tfloat32|float32) inference .*"
# what a row says, and a pattern of the names of its figures, in the order of the results
ROWS = [
    (f"CRF 375x500, 21 labels, {SIGMAS}: one image, by graph replay", r"375x500x21 .* by graph.*"),
    ("the same, eager", r"crf 375x500x21 .*, eager"),
    ("the same, batches of 16", r"crf 375x500x21 .*, batch 16"),
    ("its lattices alone", r"crf 375x500x21 .*, lattice build"),
    ("CRF 1024x2048, 19 labels, 80/13, 60/5: one image", r"crf 1024x2048x19 .*, batch 1"),
    ("ASPP head against four `conv2d`, by graph replay", HEAD + "replay"),
    ("the same, eager", HEAD + "conv2d"),
    (
        '`atrous_conv2d`, `"auto"` against the best algorithm, bf16 at 41x41',
        r"atrous_conv2d .*, auto against the best algorithm",
    ),
    ("the same under `cudnn.deterministic`", r"atrous_conv2d .* the best algorithm, deterministic"),
    ("`space_to_batch` of contiguous maps, of a copy", r"space_to_batch contiguous, .*"),
    ("the same, channels_last", r"space_to_batch channels_last, .*"),
    ("`batch_to_space` of contiguous maps, of a copy", r"batch_to_space contiguous, .*"),
    ("the same, channels_last", r"batch_to_space channels_last, .*"),
    (
        "ResNet-101 ASPP 513 and CRF 67/3, bf16, channels_last: one image",
        r"deeplab_resnet101_aspp 513 bfloat16 channels_last, CRF, batch 1",
    ),
    ("the same, batch 8", r"deeplab_resnet101_aspp 513 bfloat16 channels_last, CRF, batch 8"),
]


def number(value: float, unit: str) -> str:
    if not unit:  # a share
        return f"{100 * value:.0f} %"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def measured(rows: list[dict]) -> str:
    """Each value of up to four, in their order; of more the least and the largest."""
    unit = rows[0]["unit"]
    values = [row["value"] for row in rows]
    shown = [number(value, unit) for value in values]
    if len(rows) > 4 or not unit:
        shown = [f"{number(min(values), unit)} to {number(max(values), unit)}"]
    return " ".join([", ".join(shown), unit]).strip()


def goals(rows: list[dict], key: str, reached: str) -> str:
    """The goals, and how many of the values missed theirs."""
    with_goal = [row for row in rows if row[key]]
    if not with_goal:
        return ""
    bounds = [number(float(row[key].split()[1]), row["unit"]) for row in with_goal]
    wanted = bounds[0] if len(set(bounds)) == 1 else ", ".join(bounds)
    missed = sum(not row[reached] for row in with_goal)
    if not missed:
        return f"{wanted}: met"
    if missed == len(with_goal):
        return f"{wanted}: missed"
    return f"{wanted}: missed by {missed} of {len(with_goal)}"


def markdown(results: dict) -> str:
    figures = [row for row in results["figures"] if row["value"] is not None]
    lines = ["| | measured | goal then | goal now |", "|---|---|---|---|"]
    for label, pattern in ROWS:
        rows = [row for row in figures if re.fullmatch(f"(crf )?{pattern}", row["name"])]
        if not rows:
            continue
        then, now = goals(rows, "first_goal", "first_met"), goals(rows, "goal", "met")
        lines.append(f"| {label} | {measured(rows)} | {then} | {'' if now == then else now} |")
    machine = results["machine"]
    date = datetime.datetime.fromisoformat(machine["date"])
    return "\n".join(
        [
            f"One {machine['gpu']}, {date.day} {date:%B %Y}, commit {machine['commit']}, torch "
            f"{machine['torch']}, driver {machine['driver']}:",
            "",
            *lines,
        ]
    )


def placed(text: str, table: str, begin: str = BEGIN) -> str:
    """A document with the table between its markers."""
    before, found, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise SystemExit(f"expected {begin} and {END} around the table")
    return f"{before}{begin}\n{table}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS / "nvidia-h200.json")
    parser.add_argument("--update", action="store_true", help="write it into README.md")
    args = parser.parse_args()
    table = markdown(json.loads(args.results.read_text()))
    print(table)
    if args.update:
        README.write_text(placed(README.read_text(), table))


if __name__ == "__main__":
    main()
