"""Trains and evaluates MobileNetV2 with the paper's heads, with and without multi-scale inputs.

    python experiments/ablation.py voc_animals DATA_FOLDER --trunk FILE.npz --out runs/animals
    python experiments/ablation.py camvid DATA_FOLDER --trunk FILE.npz --out runs/camvid

Every variant is `deeplab-native train` and `deeplab-native evaluate`, whose commands are printed;
what is done is not done again, and what was interrupted goes on. --json gets the result of every
run, and means and standard deviations over the seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from _timing import machine_info, write_json  # noqa: E402

HEADS = ("largefov", "aspp_s", "aspp_l")
SCALES = {"single": [1.0], "multi": [1.0, 0.75, 0.5]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=("voc_animals", "camvid"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--trunk", type=Path, required=True, help="ImageNet weights, .npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # seed by seed: what an interrupted ablation has are whole tables
    variants = list(product(args.seeds, SCALES, HEADS))
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = [pool.submit(run, args, *variant) for variant in variants]
        try:
            runs = [future.result() for future in futures]
        except BaseException:  # what failed once fails for the others, too: none begins after it
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    rows = means(runs)
    for row in rows:
        print(row)
    if args.json is not None:
        what = {"runs": runs, "means": rows, "changes": args.changes}
        write_json(args.json, {"machine": machine_info(), **what})


def run(args: argparse.Namespace, seed: int, scales: str, head: str) -> dict[str, Any]:
    out = args.out / f"{head}-{scales}-{seed}"
    trained = out / "net.safetensors"
    if not trained.exists():
        values = [
            f"model.name=deeplab_mobilenetv2_{head}",
            f"model.scales={SCALES[scales]}",
            f"model.imagenet_trunk={args.trunk}",
            f"seed={seed}",
            *args.changes,
        ]
        changes = [part for value in values for part in ("--set", value)]
        resume = ["--resume"] if out.exists() else []
        config = HERE / f"ablation_{args.set}.yaml"
        call(out, "train", config, "--data-root", args.data, "--output", out, *changes, *resume)
    result = out / "evaluation/evaluation.json"
    if not result.exists():
        if args.set == "voc_animals":
            data = ["folder", args.data, "--split", "val", "--images", "JPEGImages"]
            data += ["--classes", names_of_classes(trained)]
            data += ["--label-map", HERE / "voc_animals.label_map.json"]
        else:
            data = ["camvid", args.data, "--split", "test"]
        how = ["--multi-scale", "--no-single-scale"] if scales == "multi" else []
        how += ["--workers", 1]
        call(out, "evaluate", *data, "--weights", trained, "--output", result.parent, *how)
    before, after = json.loads(result.read_text())["variants"].values()
    return {
        "head": head,
        "scales": scales,
        "seed": seed,
        "mean_iou": round(100 * before["mean_iou"], 2),
        "mean_iou_crf": round(100 * after["mean_iou"], 2),
    }


def names_of_classes(weights: Path) -> Path:
    from deeplab_native.weights import read_metadata

    names = weights.with_name("classes.json")
    names.write_text(json.dumps(dict(enumerate(read_metadata(weights).class_names or ()))))
    return names


def call(out: Path, *words: object) -> None:
    command = ["deeplab-native", *map(str, words)]
    print("$", *command, flush=True)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{out.name}: exit {done.returncode}\n{done.stderr[-2000:]}")


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
    return rows


if __name__ == "__main__":
    main()
