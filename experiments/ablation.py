"""Trains and evaluates MobileNetV2 with the paper's heads, with and without multi-scale inputs.

    python experiments/ablation.py animals DATA_FOLDER --trunk FILE.npz --out runs/ablation
    python experiments/ablation.py camvid DATA_FOLDER --trunk FILE.npz --out runs/camvid

Every variant is `deeplab-native train` and `deeplab-native evaluate`, whose commands are printed; a
variant that is done is not run again. The results, and the standard deviation over the seeds, go
to --json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from _timing import machine_info, write_json  # noqa: E402

HEADS = ("largefov", "aspp_s", "aspp_l")
SCALES = {"single": [1.0], "multi": [1.0, 0.75, 0.5]}
CRF = ["--w1", "4", "--sigma-alpha", "67", "--sigma-beta", "3", "--w2", "3", "--sigma-gamma", "3"]
LABEL_MAP = HERE / "voc_animals.label_map.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=("animals", "camvid"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--trunk", type=Path, required=True, help="ImageNet weights, .npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    runs = [
        run(args, *variant) for variant in product(args.seeds, SCALES, HEADS)
    ]  # seed by seed: an interrupted ablation has whole rows
    if args.json is not None:
        what = {"runs": runs, "means": means(runs), "changes": args.changes}
        write_json(args.json, {"machine": machine_info(), **what})


def run(args: argparse.Namespace, seed: int, scales: str, head: str) -> dict[str, Any]:
    out = args.out / f"{head}-{scales}-{seed}"
    trained = out / "net.safetensors"
    begin = perf_counter()
    if not trained.exists():
        config = HERE / f"ablation_{'voc_' if args.set == 'animals' else ''}{args.set}.yaml"
        values = [
            f"model.name=deeplab_mobilenetv2_{head}",
            f"model.scales={SCALES[scales]}",
            f"model.imagenet_trunk={args.trunk}",
            f"seed={seed}",
            *args.changes,
        ]
        changes = [part for value in values for part in ("--set", value)]
        resume = ["--resume"] if out.exists() else []
        call("train", config, "--data-root", args.data, "--out", out, *changes, *resume)
    minutes = (perf_counter() - begin) / 60
    result = out / "evaluation/evaluation.json"
    if not result.exists():
        if args.set == "animals":
            names = out.parent / "classes.json"
            names.write_text(json.dumps(dict(enumerate(class_names(trained)))))
            data = ["folder", args.data, "--split", "val", "--images", "JPEGImages"]
            data += ["--classes", names, "--label-map", LABEL_MAP]
        else:
            data = ["camvid", args.data, "--split", "test"]
        how = ["--multi-scale", "--no-single-scale"] if scales == "multi" else []
        call("evaluate", *data, "--weights", trained, "--out", result.parent, *CRF, *how)
    before, after = json.loads(result.read_text())["variants"].values()
    return {
        "head": head,
        "scales": scales,
        "seed": seed,
        "minutes": round(minutes, 1),
        "mean_iou": round(100 * before["mean_iou"], 2),
        "mean_iou_crf": round(100 * after["mean_iou"], 2),
    }


def class_names(weights: Path) -> tuple[str, ...]:
    from deeplab_native.weights import read_metadata

    return read_metadata(weights).class_names or ()


def call(*words: object) -> None:
    command = ["deeplab-native", *map(str, words)]
    print("$", *command, flush=True)
    subprocess.run(command, check=True)


def means(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for scales, head in product(SCALES, HEADS):
        of_variant = [r for r in runs if (r["head"], r["scales"]) == (head, scales)]
        row: dict[str, Any] = {"head": head, "scales": scales, "seeds": len(of_variant)}
        for key in ("mean_iou", "mean_iou_crf"):
            values = [r[key] for r in of_variant]
            row[key] = round(statistics.mean(values), 2)
            row[f"{key}_stdev"] = round(statistics.stdev(values), 2) if len(values) > 1 else None
        rows.append(row)
        print(row)
    return rows


if __name__ == "__main__":
    main()
