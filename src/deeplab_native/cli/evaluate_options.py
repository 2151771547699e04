"""What `deeplab-native evaluate` makes of its options; every fault is named before work starts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..data import SegmentationDataset, open_dataset, read_ids
from ..data.classes import read_json_object
from ..metrics import AROUND, TRIMAP_WIDTHS
from .evaluate_image import ScoreMaps

_DEFAULTS = {"images": "images", "labels": "labels", "classes": None, "label_map": None}


def open_data(
    name: str, root: Path, split: str | None, ids: Path | None, of_folder: dict[str, Any]
) -> SegmentationDataset:
    """The data set, with only the images of the list `ids` where one is given."""
    if name != "folder":
        given = [option for option, value in of_folder.items() if value != _DEFAULTS[option]]
        if given:
            option = given[0].replace("_", "-")
            raise ValueError(
                f"--{option} is for the data set 'folder', not {name!r} (leave it out)"
            )
        keywords = {}
    else:
        path = of_folder["label_map"]
        keywords = {**of_folder, "label_map": None if path is None else _read_label_map(path)}
    dataset = open_dataset(name, root, split, **keywords)
    return dataset if ids is None else dataset.subset(read_ids(ids))


def _read_label_map(path: Path) -> dict[int, int]:
    content = read_json_object(path)
    try:
        if not all(type(label) is int for label in content.values()):
            raise ValueError
        return {int(value): label for value, label in content.items()}  # type: ignore[misc]
    except ValueError:
        raise ValueError(
            f'{path}: expected the label of every value, as {{"0": 0, "8": 1, "255": 255}}'
        ) from None


def around_what(trimap: str, dataset: SegmentationDataset) -> tuple[str | None, int]:
    """Of `Settings`: what trimaps are around, and how wide they are."""
    if trimap == "auto":
        trimap = "void" if dataset.void_borders else "boundary"
    if trimap == "none":
        return None, 0
    if trimap not in AROUND:
        raise ValueError(f"--trimap {trimap} is unknown (use auto, none, {', '.join(AROUND)})")
    return trimap, TRIMAP_WIDTHS


def class_indices(names: str | None, classes: Sequence[str]) -> list[int] | None:
    if names is None:
        return None
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in classes:
            raise ValueError(f"--mean-over: no class {name!r} (use {', '.join(classes)})")
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"--mean-over {names}: a class twice (name each once)")
    return [classes.index(name) for name in wanted]


def check_out(out: Path, inputs: Iterable[Path]) -> None:
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"--out {out} is a file (give a folder)")
    if out.resolve() in {path.resolve() for path in inputs}:
        raise ValueError(f"--out {out}: results would lie among the inputs (give another folder)")


def check_device(device: str) -> None:
    try:
        torch.empty(0, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device}: cannot be used: {reason} (try cpu)") from None


def check_scores(source: ScoreMaps, dataset: SegmentationDataset) -> None:
    """Raises where an image has no score map: figures of the others would not be the set's."""
    if not source.folder.is_dir():
        raise NotADirectoryError(f"--scores {source.folder} is no folder (give one of score maps)")
    missing = [e.name for e in dataset.entries if not source.path(e.name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"--scores: {source.path(missing[0])} (or .npz) is missing; {len(missing)} of "
            f"{len(dataset)} images have no scores (make them, or give --ids with the others)"
        )
