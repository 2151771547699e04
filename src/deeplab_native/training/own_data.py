"""Somebody's data as a folder that `data.folder` reads: DATA/images, labels, lists, classes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from .. import viz
from .._files import atomic_path, check_inside
from .._images import read_image, reduced_size
from ..data.own_data import OwnData, OwnPair

DATA = "data"
PARTS = {"images", "labels", "train.txt", "val.txt", "classes.json"}
"""What `write_data` makes."""
LONGEST_SIDE = 513
"""Pixels; larger photographs are reduced to it: the size of the paper's test images."""
_QUALITY = 95  # of reduced JPEGs


def write_data(
    data: OwnData,
    folder: Path,
    *,
    longest_side: int = LONGEST_SIDE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Writes `data` as a data set that every command opens as "folder"; `folder` is new or ours.

    Labels are written as numbers 0, 1, ... and 255. Photographs are links, or copies where they
    have more pixels than `longest_side` in height or width.

    Returns:
        How many photographs were reduced.

    Raises ValueError with the number of the files that cannot be used and the first of them, and
    where a link leads out of the folder above.
    """
    parts = [folder / part for part in ("images", "labels")]
    check_inside(folder.parent, [folder, *parts])
    for part in parts:
        part.mkdir(parents=True, exist_ok=True)

    def work(name: str) -> bool | Exception:
        try:
            return _write(data, name, folder, longest_side)
        except (ValueError, OSError) as error:
            return error

    reduced, bad = 0, []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, one in enumerate(pool.map(work, data.pairs), 1):
            if isinstance(one, Exception):
                bad.append(one)
            else:
                reduced += one
            progress(done, len(data.pairs))
    if bad:
        more = f" ({len(bad)} of {len(data.pairs)} files cannot be used)" if len(bad) > 1 else ""
        raise ValueError(f"{bad[0]}{more}") from bad[0]
    _write_text(folder / "train.txt", "".join(f"{name}\n" for name in data.split.train))
    _write_text(folder / "val.txt", "".join(f"{name}\n" for name in data.split.val))
    names = {str(i): name for i, name in enumerate(data.class_set.names)}
    _write_text(folder / "classes.json", json.dumps(names, indent=1, ensure_ascii=False) + "\n")
    return reduced


def _write(data: OwnData, name: str, folder: Path, longest_side: int) -> bool:
    pair, labels = data.pairs[name], data.labels(name)
    reduces = max(pair.size) > longest_side
    if reduces:
        labels = _reduced_photo(pair, labels, folder / f"images/{name}.jpg", longest_side)
    else:
        link = folder / f"images/{name}{pair.image.suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(pair.image.resolve())
    colours = viz.voc_palette()
    colours[: len(data.class_set)] = data.class_set.palette
    viz.save_label_png(folder / f"labels/{name}.png", labels, colours)
    return reduces


def _reduced_photo(pair: OwnPair, labels: np.ndarray, path: Path, longest_side: int) -> np.ndarray:
    """Writes the photograph, and returns its labels at the same size."""
    size = reduced_size(pair.size, longest_side)
    photo = Image.fromarray(read_image(pair.image))
    with atomic_path(path) as temporary:
        photo.resize(size, Image.Resampling.LANCZOS).save(temporary, quality=_QUALITY)
    small = Image.fromarray(labels).resize(size, Image.Resampling.NEAREST)
    return np.array(small)


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def describe_source(data: OwnData) -> str:
    """What was found, in one line."""
    width, height = np.median([pair.size for pair in data.pairs.values()], axis=0)
    return f"{len(data.pairs)} photographs with {data.what}; median size {width:.0f} x {height:.0f}"
