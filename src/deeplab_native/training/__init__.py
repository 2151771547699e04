"""Training by the paper's recipe, or another one, from a configuration file.

>>> config = load_config("voc.yaml", ["data.root=VOCdevkit"])
>>> train(config, Path("runs/voc")).scores.mean_iou

Or from a folder of photographs and labels, with a schedule that suits it:

>>> data, plan = plan_folder("photos", "runs/mine")
>>> train(plan.config, "runs/mine", resume=True)

Needs `pip install 'deeplab_native[train]'`; Lightning is imported when a run starts, pydantic with
`Config`, when a configuration is checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .augmentation import Crop, augment
from .checkpoints import State, load_checkpoint, save_checkpoint
from .config_file import (
    check_config,
    dump_config,
    find_config,
    load_config,
    shipped_configs,
    whole_config,
)
from .ema import WeightAverage
from .folder_run import plan_folder
from .loop import Outcome
from .loss import TrainingLoss
from .optimizer import CaffeSGD, make_optimizer, parameter_groups
from .plan import Plan
from .run import train
from .samples import Batch, training_loader
from .schedule import learning_rate
from .setup import build_model
from .validation import validate

if TYPE_CHECKING:
    from .config import Config as Config

__all__ = [
    "Batch",
    "CaffeSGD",
    "Config",
    "Crop",
    "Outcome",
    "Plan",
    "State",
    "TrainingLoss",
    "WeightAverage",
    "augment",
    "build_model",
    "check_config",
    "dump_config",
    "find_config",
    "learning_rate",
    "load_checkpoint",
    "load_config",
    "make_optimizer",
    "parameter_groups",
    "plan_folder",
    "save_checkpoint",
    "shipped_configs",
    "train",
    "training_loader",
    "validate",
    "whole_config",
]


def __getattr__(name: str) -> Any:
    if name == "Config":
        from .config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
