"""A schedule that suits a number of photographs and a machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .._memory import available_memory
from ..weights import EMBEDDED, read_metadata
from .config_file import check_config, merge_overrides
from .pace import Pace, measure_pace

if TYPE_CHECKING:
    from .config import Config

MINUTES = 15.0
"""Of a run whose schedule is chosen here, at the most."""
STRIDE = {"cpu": 16, "cuda": 8}  # of score maps: 16 trains about three times as fast
_CROP = {"cpu": 257, "cuda": 321}  # what such nets were trained with here
_BATCH = {"cpu": 8, "cuda": 16}
# of training MobileNetV2, measured: of a pixel of a crop, at either stride
_BYTES_A_PIXEL = {16: 1800, 8: 2900}
_PASSES, _AT = 100, 20  # over so few photographs; over n times as many, n^-0.3 of them
_LEAST_UPDATES = 200  # where there is the time
_FEWEST = 10
_HEAD = 0.15  # of the updates, before them
_FOR_UPDATES = 0.85  # of the time; the rest is for validation


class Plan(NamedTuple):
    """A run.

    Attributes:
        config: all of it.
        pace: seconds of an update here; None where the number of updates was given.
        minutes: that it will take.
        notes: what was chosen, and how to change it, a line each.
    """

    config: Config
    pace: Pace | None
    minutes: float | None
    notes: tuple[str, ...]


def passes_of(images: int) -> float:
    """How often photographs are seen: 100 times where there are few, 31 times of a thousand."""
    passes: float = _PASSES * min(1.0, (images / _AT) ** -0.3)
    return passes


def crop_and_batch(device: str, longest: int, memory: int | None) -> tuple[int, int]:
    """Side of the crops and number in a batch: for photographs of so many pixels, and the memory.

    A crop is no larger than the photographs, on score map's pixels; the batch is halved, then the
    crop made smaller, until training takes at most half of the memory.
    """
    stride = STRIDE[device]
    crop = min(_CROP[device], max(2, -(-(longest - 1) // stride)) * stride + 1)
    batch = _BATCH[device]
    while memory and batch * crop * crop * _BYTES_A_PIXEL[stride] > memory / 2:
        if batch > 2:
            batch //= 2
        elif crop > 65 + stride:
            crop -= stride
        else:
            break
    return crop, batch


def updates_within(minutes: float, pace: Pace) -> int:
    """Updates of the whole net, with those of the head before them; ten at the least."""
    return max(_FEWEST, int(_FOR_UPDATES * 60 * minutes / (pace.whole + _HEAD * pace.head)))


def plan_run(
    data: Path,
    *,
    images: int,
    longest: int,
    minutes: float | None = None,
    overrides: Iterable[str] = (),
) -> Plan:
    """The configuration of a run on the folder of `write_data`, by what its photographs ask for.

    Args:
        data: the folder.
        images: for training.
        longest: side of the photographs in pixels.
        minutes: that the run shall take; None: as many as so few photographs need, at most 15.
        overrides: "key.sub=value" each, as of `load_config`; what they say is not chosen.

    Raises what `check_config` and `train` raise.
    """
    device = _device(overrides)
    memory = torch.cuda.mem_get_info()[0] if device == "cuda" else available_memory()
    crop, batch = crop_and_batch(device, longest, memory)
    base = _content(data, device, crop, batch)
    given = merge_overrides({}, overrides).get("schedule", {})
    wanted = given.get("iterations") if isinstance(given, dict) else None
    if not isinstance(wanted, int) or wanted < 1:  # which `check_config` says, if there is any
        wanted = None
    config = check_config(merge_overrides(_with_schedule(base, wanted or 100), overrides))
    notes = [
        f"batches of {config.batch} crops of {config.augmentation.crop} x "
        f"{config.augmentation.crop} pixels (--set batch=..., --set augmentation.crop=...)"
    ]
    if wanted is not None:
        return Plan(config, None, None, tuple(notes))
    pace = measure_pace(config)
    enough = max(_LEAST_UPDATES, round(images * passes_of(images) / config.batch))
    most = updates_within(MINUTES if minutes is None else minutes, pace)
    updates = min(enough, most) if minutes is None else most
    config = check_config(merge_overrides(_with_schedule(base, updates), overrides))
    head = config.schedule.head_first.iterations
    took = (config.schedule.iterations * pace.whole + head * pace.head) / _FOR_UPDATES / 60
    passes = config.iterations * config.batch / images
    budget = f"{minutes or MINUTES:g} minutes"
    why = f", the fewest (not within {budget})" if updates == _FEWEST else f", within {budget}"
    why = "" if updates < most else why
    notes.insert(
        0,
        f"{config.iterations} updates of {pace.whole:.2f} s ({head} of the head alone, "
        f"{pace.head:.2f} s), {passes:.0f} passes over {images} photographs{why}: about "
        f"{_time(took)} (--minutes M, or --set schedule.iterations=N)",
    )
    return Plan(config, pace, took, tuple(notes))


def _time(minutes: float) -> str:
    return f"{60 * minutes:.0f} seconds" if minutes < 1.5 else f"{minutes:.0f} minutes"


def _device(overrides: Iterable[str]) -> str:
    wanted = merge_overrides({}, overrides).get("accelerator", "auto")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


def _content(data: Path, device: str, crop: int, batch: int) -> dict[str, Any]:
    """What does not depend on the number of updates: configs/folder/mobilenetv2.yaml, and a start.

    The start is the package's net, whose trunk has seen photographs of things already.
    """
    crf = read_metadata(EMBEDDED).crf
    gpu = device == "cuda"
    return {
        "model": {
            "name": "deeplab_mobilenetv2_aspp",
            "options": {"output_stride": STRIDE[device]},
            "weights": str(EMBEDDED),
            "new_layers": "classifier",
        },
        "data": {"dataset": "folder", "root": str(data.resolve()), "on_device": gpu},
        "augmentation": {
            "crop": crop, "scale_range": [0.5, 1.5], "brightness": 0.1, "contrast": 0.1,
        },
        "batch": batch,
        "precision": "bf16" if gpu else "32",
        "accelerator": device,
        "devices": 1,
        "optimizer": {
            "lr": 0.002,
            "clip": 5.0,
            "trunk_weight": {"lr": 1, "decay": 0.08},
            "classifier_weight": {"lr": 1, "decay": 1},
            "classifier_bias": {"lr": 2, "decay": 0},
        },
        "loss": {"at": "input"},
        "crf": None if crf is None else vars(crf),
    }  # fmt: skip


def _with_schedule(content: dict[str, Any], updates: int) -> dict[str, Any]:
    return content | {
        "schedule": {
            "iterations": updates,
            "warmup": min(50, updates // 10),
            "head_first": {"iterations": round(_HEAD * updates)},
        },
        "validation": {"every": -(-updates // 3), "images": 50, "pictures": 3},
        "checkpoints": {"every": max(25, updates // 10)},
        "log_every": max(1, updates // 20),
    }
