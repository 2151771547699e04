"""Trains the package's own net on a GPU (or a CPU), evaluates it, and writes its weights file.

    python experiments/train_embedded.py DATA --trunk FILE.npz --out runs/embedded --minutes 5

DATA is the folder of voc_animals.md, FILE.npz MobileNetV2 for ImageNet. embedded.yaml says how it
is trained. Its number of iterations is fixed, as "poly" needs it; --minutes replaces it by as many
as this machine does in that time, by the speed of some first updates, which are thrown away. OUT
gets what `deeplab-native train` writes, the weights in float16 under the name that they have in the
package, and result.json: mean IoU with and without the CRF, of the new net and of the package's.

The same command goes on where it was interrupted. It needs Lightning, PyYAML and TensorBoard, but
no pydantic.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import yaml

from deeplab_native import jobs
from deeplab_native._malloc import keep_freed_memory
from deeplab_native.training.config_file import load_config, read_config, whole_config
from deeplab_native.training.run import train
from deeplab_native.training.setup import open_data
from deeplab_native.weights import EMBEDDED, load_model, save

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))

from _timing import machine_info, write_json  # noqa: E402

RESERVE = 0.2  # of --minutes, for validations and the evaluation of two nets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--trunk", type=Path, help="ImageNet weights, .npz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=HERE / "embedded.yaml")
    parser.add_argument("--minutes", type=float, help="of this machine, all together")
    parser.add_argument("--first-updates", type=int, default=40, help="the second half is timed")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    keep_freed_memory()
    start = time.perf_counter()
    changes = [f"data.root={args.data.resolve()}", *args.changes]
    if args.trunk is not None:
        changes.append(f"model.imagenet_trunk={args.trunk.resolve()}")
    iterations = f"schedule.iterations={chosen_iterations(args, changes)}"
    config = configuration(args.config, [*changes, iterations])
    begun = (args.out / "config.yaml").exists()
    outcome = train(config, args.out, resume=begun)
    if outcome.interrupted_by:
        raise SystemExit(
            f"interrupted after iteration {outcome.iteration}: the same command goes on"
        )
    trained = time.perf_counter() - start
    weights = args.out / EMBEDDED.name
    save(load_model(args.out / "net.safetensors"), weights, dtype=torch.float16)
    result = {
        "machine": machine_info(),
        "config": config.model_dump(mode="json"),
        "images_per_second": speeds(args.out),
        "seconds": {"training": trained},
        "nets": {
            name: evaluated(config, file, args.out / f"evaluation_{name}")
            for name, file in (("new", weights), ("package", EMBEDDED))
        },
    }
    result["seconds"]["all"] = time.perf_counter() - start
    write_json(args.out / "result.json", result)
    print(f"{'net':10} {'mean IoU':>9} {'with CRF':>9}")
    for name, net in result["nets"].items():
        print(f"{name:10} {net['mean_iou']:8.2f} % {net['crf']['mean_iou']:7.2f} %")
    print(f"{weights}: to replace {EMBEDDED.name}; {args.out / 'result.json'}: the figures")


def configuration(path: Path, changes: list[str]) -> Any:
    """Checked, where pydantic is there to check it."""
    if find_spec("pydantic") is None:
        return whole_config(read_config(path, changes))
    return load_config(path, changes)


def chosen_iterations(args: argparse.Namespace, changes: list[str]) -> int:
    """Of the schedule: the configuration's, a begun run's, or as many as the time allows."""
    config = configuration(args.config, changes)
    begun = args.out / "config.yaml"
    if args.minutes is None:
        return config.schedule.iterations
    if begun.exists():
        return yaml.safe_load(begun.read_text())["schedule"]["iterations"]
    folder = args.out.with_name(f"{args.out.name}-speed")
    shutil.rmtree(folder, ignore_errors=True)
    before = time.perf_counter()
    first = [
        f"schedule.iterations={args.first_updates}",
        "schedule.head_first={iterations: 0, lr: null}",
        f"log_every={args.first_updates // 2}",
        "data.val=null",
    ]
    train(configuration(args.config, [*changes, *first]), folder)
    speed = speeds(folder)[-1]
    shutil.rmtree(folder)
    # what these updates took was mostly reading, and comes once more
    left = 60 * args.minutes * (1 - RESERVE) - 2 * (time.perf_counter() - before)
    # an update of the head alone takes a third
    iterations = int(left * speed / config.batch - config.schedule.head_first.iterations / 3)
    print(f"{speed:.0f} images/s: {iterations} iterations of {config.batch} in {left:.0f} s")
    if iterations < 1:
        raise SystemExit(f"--minutes {args.minutes:g}: too few (give more, or leave it out)")
    return iterations


def speeds(run: Path) -> list[float]:
    """Images a second of every line of a run's log."""
    with (run / "training.csv").open(newline="") as file:
        return [float(row["images_per_second"]) for row in csv.DictReader(file)]


def evaluated(config: Any, weights: Path, out: Path) -> dict[str, Any]:
    """On the validation images, in %."""
    dataset = open_data(config).val
    cuda = config.accelerator != "cpu" and torch.cuda.is_available()
    done = jobs.evaluate(
        dataset,
        out,
        weights=weights,
        device="cuda" if cuda else "cpu",
        workers=0,
        overwrite=True,
    )
    before, after = (in_percent(v.scores, dataset.classes) for v in done.report.variants.values())
    return {**before, "crf": after}


def in_percent(scores: Any, classes: tuple[str, ...]) -> dict[str, Any]:
    ious = [round(100 * value, 2) for value in scores.class_iou.tolist()]
    return {
        "mean_iou": round(100 * scores.mean_iou, 2),
        "class_iou": dict(zip(classes, ious, strict=True)),
    }


if __name__ == "__main__":
    main()
