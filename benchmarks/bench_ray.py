"""How many images a second do two workers of Ray label, beside one process and two of `segment`?

    python benchmarks/bench_ray.py PHOTOS --images 200 --json benchmarks/results/ray.json

PHOTOS is a folder; photographs of 375 x 500 are cut from the middle of its pictures, again and
again up to the number asked for, and labelled by the net of the package with its CRF. Without it
they are crops of the package's photograph. `--only CASE` runs some of the cases and leaves the
others' results in the file. Two rates: of the whole call, with the start of the processes, and from
the first result on, which is what a long run has.
"""

from __future__ import annotations

import argparse
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from _timing import machine_info, write_json
from deeplab_native import jobs
from deeplab_native.demo.photo import photograph

SIZE = (500, 375)  # of VOC's photographs
CASES = ("segment, 1 worker", "segment, 2 workers", "Ray, 2 workers, files", "Ray, 2 workers, tar")
SHARD = 25


def write_photos(given: Path | None, number: int, to: Path) -> None:
    """As JPEGs, which differ: those that come again are mirrored or turned."""
    if given is None:
        whole = Image.fromarray(photograph())
        random = np.random.default_rng(0)
        sources = []
        for left, top in random.integers(0, 60, (number, 2)):
            box = (left, top, left + whole.width - 60, top + whole.height - 60)
            sources.append(ImageOps.fit(whole.crop(tuple(map(int, box))), SIZE))
    else:
        sources = [
            ImageOps.fit(Image.open(p).convert("RGB"), SIZE) for p in sorted(given.glob("*.jpg"))
        ]
    ways: list[Callable[[Image.Image], Image.Image]] = [
        lambda i: i, ImageOps.mirror, ImageOps.flip, ImageOps.autocontrast, ImageOps.equalize,
    ]  # fmt: skip
    for i in range(number):
        way = ways[i // len(sources) % len(ways)]
        way(sources[i % len(sources)]).save(to / f"{i:04d}.jpg", quality=92)


def write_shards(photos: Path, to: Path) -> None:
    files = sorted(photos.iterdir())
    for first in range(0, len(files), SHARD):
        with tarfile.open(to / f"{first // SHARD:03d}.tar", "w") as tar:
            for file in files[first : first + SHARD]:
                tar.add(file, file.name)


def measure(case: str, photos: Path, shards: Path, output: Path) -> dict[str, Any]:
    seen: list[tuple[float, int]] = []

    def progress(now: jobs.Progress) -> None:
        if now.done and (not seen or now.done > seen[-1][1]):
            seen.append((perf_counter(), now.done))

    start = perf_counter()
    what, workers, *form = case.split(", ")
    number = int(workers.split()[0])
    if what == "segment":
        done: Any = jobs.segment(
            photos, output, overlay=False, workers=number, threads=1, progress=progress
        )
        images = done.segmented
    else:
        given = shards if form == ["tar"] else photos
        done = jobs.ray.segment(
            given, output, masks="tar" if form == ["tar"] else "png", shard_images=SHARD,
            workers=number, threads=1, gpus=0, progress=progress,
        )  # fmt: skip
        images = done.images
    seconds = perf_counter() - start
    running = (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0])
    return {
        "images": images,
        "seconds": seconds,
        "images_per_s": images / seconds,
        "seconds_to_first": seen[0][0] - start,
        "images_per_s_running": running,
        "mask_bytes": sum(p.stat().st_size for p in output.rglob("*.png")) or None,
        "image_bytes": sum(p.stat().st_size for p in photos.iterdir()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", type=Path, nargs="?", help="a folder of JPEGs")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--only", choices=CASES, nargs="+", default=CASES)
    parser.add_argument("--json", type=Path, help="also write the result there")
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        results = json.loads(arguments.json.read_text())
    results |= {"machine": machine_info(), "size": [SIZE[1], SIZE[0]]}
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        for name in ("photos", "shards"):
            (top / name).mkdir()
        write_photos(arguments.photos, arguments.images, top / "photos")
        write_shards(top / "photos", top / "shards")
        for i, case in enumerate(arguments.only):
            found = measure(case, top / "photos", top / "shards", top / f"out{i}")
            results.setdefault("cases", {})[case] = found
            print(
                f"{case}: {found['images_per_s']:.2f} images/s, "
                f"{found['images_per_s_running']:.2f} from the first result on",
                flush=True,
            )
    if arguments.json:
        write_json(arguments.json, results)


if __name__ == "__main__":
    main()
