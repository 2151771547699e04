"""What does a telephone's photograph cost: `segment` and `crf`, each in a process of its own?

Photographs with score maps and labels, enlarged (FOLDER has images/NAME.jpg, scores/NAME.npy and,
where mean IoU is wanted, labels/NAME.png):

    python benchmarks/bench_large_photo.py FOLDER --photos 10 --side 6000 --exact --json result.json

The first photograph is segmented by the net of the package and refined with its score map; seconds
of the clock and of the processor, and the largest resident memory, are those of the whole command.
With --exact also by --scale 1 (6000 x 4000: 6.5 GB), and for all photographs the share of pixels
whose label the two have in common, and the mean IoU of both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from _outputs import add_outputs
from _timing import machine_info, write_document

COMMAND = [sys.executable, "-c", "from deeplab_native.cli.main import main; main()"]
VOID = 255


def run(*arguments: object) -> dict[str, float]:
    """Wall and processor seconds and peak resident GB of a command."""
    start = perf_counter()
    words = [*COMMAND, *map(str, arguments)]
    output = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(words[0], words, os.environ, file_actions=output)
    _, status, used = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"{' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}")
    return {
        "wall_s": perf_counter() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_gb": used.ru_maxrss * 1024 / 1e9,
    }


def enlarge(folder: Path, name: str, side: int, to: Path) -> Path:
    """A JPEG whose longer side is `side`."""
    with Image.open(folder / "images" / f"{name}.jpg") as photo:
        factor = side / max(photo.size)
        size = tuple(round(n * factor) for n in photo.size)
        path = to / f"{name}.jpg"
        photo.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, quality=92)
    return path


def labels_of(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    with Image.open(path) as image:
        own = image if size is None else image.resize(size, Image.Resampling.NEAREST)
        return np.array(own)


def mean_iou(counts: np.ndarray) -> float:
    """Of the classes that are there, in percent."""
    there = counts.sum(1) > 0
    both = np.diag(counts)
    return float((both / np.maximum(1, counts.sum(0) + counts.sum(1) - both))[there].mean()) * 100


def compare(folder: Path, names: list[str], side: int, to: Path) -> dict[str, Any]:
    """Labels of `crf` by itself and at --scale 1, of photographs enlarged."""
    agreement: dict[str, float] = {}
    counts = {"auto": np.zeros((256, 256), np.int64), "1": np.zeros((256, 256), np.int64)}
    for name in names:
        photo = enlarge(folder, name, side, to)
        found = {}
        for scale in counts:
            scores, out = folder / "scores" / f"{name}.npy", to / f"{name}_{scale}.png"
            how = ("--scale", scale, "--layout", "chw", "--resize", "--no-overlay")
            run("crf", photo, scores, "-o", out, *how)
            found[scale] = labels_of(out)
        agreement[name] = float((found["auto"] == found["1"]).mean()) * 100
        truth = folder / "labels" / f"{name}.png"
        if truth.exists():
            real = labels_of(truth, found["1"].shape[::-1]).astype(np.int64)
            for scale, labels in found.items():
                pairs = (real * 256 + labels)[real != VOID]
                counts[scale] += np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
        photo.unlink()
        print(f"{name}: {agreement[name]:.3f} % of the labels are those of --scale 1", flush=True)
    return {
        "agreement": agreement,
        "mean_agreement": float(np.mean(list(agreement.values()))),
        "mean_iou": {scale: mean_iou(c) for scale, c in counts.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="with images/, scores/ and labels/")
    parser.add_argument("--photos", type=int, default=10, help="spread over the folder")
    parser.add_argument("--side", type=int, default=6000, help="longer side, in pixels")
    parser.add_argument("--runs", type=int, default=3, help="of each command; the fastest counts")
    parser.add_argument("--exact", action="store_true", help="compare with --scale 1")
    add_outputs(parser)
    arguments = parser.parse_args()
    names = sorted(path.stem for path in (arguments.folder / "scores").glob("*.npy"))
    names = names[:: max(1, len(names) // arguments.photos)][: arguments.photos]
    results: dict[str, Any] = {"machine": machine_info(), "side": arguments.side}
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder)
        photo = enlarge(arguments.folder, names[0], arguments.side, to)
        small = ("--layout", "chw", "--resize", "-o", to / "crf.png")
        commands = {
            "segment": ("segment", photo, "-o", to / "out"),
            "crf": ("crf", photo, arguments.folder / "scores" / f"{names[0]}.npy", *small),
        }
        for what, words in commands.items():
            for scale in ("auto", "1") if arguments.exact else ("auto",):
                runs = arguments.runs if scale == "auto" else 1
                found = min(
                    (run(*words, "--scale", scale) for _ in range(runs)), key=lambda r: r["wall_s"]
                )
                results[f"{what} --scale {scale}"] = found
                print(
                    f"{what} --scale {scale}: {found['wall_s']:.1f} s, "
                    f"{found['cpu_s']:.1f} s of the processor, {found['peak_gb']:.2f} GB",
                    flush=True,
                )
        if arguments.exact:
            results |= compare(arguments.folder, names, arguments.side, to)
            print(f"mean {results['mean_agreement']:.3f} %, mean IoU {results['mean_iou']}")
    write_document(arguments, results)


if __name__ == "__main__":
    main()
