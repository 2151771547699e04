"""Checkpoints: everything that the next update depends on, in a safetensors file.

No pickle, and so nothing that is executed on reading. A file appears whole or not at all, and the
ones before it stay until it is there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from .._files import atomic_path
from ..weights.safetensors_file import write_safetensors
from .ema import WeightAverage

FORMAT = "deeplab_native_training/1"
_NAME = re.compile(r"iteration_(\d{8})\.safetensors")


@dataclass
class State:
    """What is trained.

    Attributes:
        model: the net.
        optimizer: `CaffeSGD`.
        average: of the weights, or None.
        iteration: updates so far.
        sums: of losses and of norms of gradients since the last line of the logs, and of how many
            updates they are.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None
    iteration: int = 0
    sums: tuple[float, float, int] = (0.0, 0.0, 0)

    def tensors(self) -> dict[str, torch.Tensor]:
        """By name; momentum only of parameters that have been updated."""
        result = {f"net/{key}": t for key, t in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            state = self.optimizer.state.get(parameter, {})
            if "momentum" in state:
                result[f"momentum/{name}"] = state["momentum"]
        if self.average is not None:
            result |= {f"average/{key}": t for key, t in self.average.averages.items()}
        return result


def path_of(folder: Path, iteration: int) -> Path:
    """The file of the checkpoint that was written after so many updates."""
    return folder / f"iteration_{iteration:08d}.safetensors"


def checkpoints_in(folder: Path) -> list[Path]:
    """The newest first."""
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if _NAME.fullmatch(p.name)), reverse=True)


def save_checkpoint(folder: Path, state: State, record: Mapping[str, Any], *, keep: int) -> Path:
    """Writes a checkpoint, then removes all but the last `keep`.

    Args:
        record: JSON about the run, which `load_checkpoint` gives back.

    Raises:
        OSError: it cannot be written; the older ones are all still there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, state.iteration)
    tensors = {key: t.detach().cpu().contiguous() for key, t in state.tensors().items()}
    header = {
        "format": FORMAT,
        "iteration": str(state.iteration),
        "average_updates": str(state.average.updates if state.average else 0),
        "sums": json.dumps(state.sums),
        "record": json.dumps(record),
    }
    try:
        with atomic_path(path) as temporary:
            write_safetensors(tensors, temporary, header)
    except OSError as error:
        there = checkpoints_in(folder)
        last = f"{there[0].name} is whole" if there else "there is none before it"
        raise OSError(
            f"cannot write the checkpoint {path}: {error}; {last} "
            "(make room, and go on with --resume)"
        ) from error
    remove_old(folder, state.iteration, keep=keep)
    return path


def remove_old(folder: Path, whole: int, *, keep: int) -> None:
    """Removes all checkpoints but the last `keep`, and none that is newer than a `whole` one."""
    for old in checkpoints_in(folder)[keep:]:
        if old < path_of(folder, whole):
            old.unlink(missing_ok=True)


def read_record(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` was told about the run; ValueError where the file is damaged."""
    return _read(path)[1]


def load_checkpoint(path: Path, state: State) -> None:
    """Puts a checkpoint into `state`: all of it, or nothing and an error.

    Raises:
        ValueError: the file is damaged, something else, or of another net.
        OSError: it cannot be opened.
    """
    header, _, tensors = _read(path)
    own = {f"net/{key}": t for key, t in state.model.state_dict().items()}
    trained = dict(state.model.named_parameters())
    if state.average is not None:
        own |= {f"average/{key}": t for key, t in state.average.averages.items()}
    momentum = {
        key: trained[key.removeprefix("momentum/")]
        for key in tensors
        if key.startswith("momentum/") and key.removeprefix("momentum/") in trained
    }
    expected = {key: t.shape for key, t in (own | momentum).items()}
    if {key: t.shape for key, t in tensors.items()} != expected:
        raise ValueError(f"{path}: of another net, or damaged (give the run's own configuration)")
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
        for key, parameter in momentum.items():
            # of the parameter's memory layout and device
            history = torch.zeros_like(parameter)
            state.optimizer.state[parameter]["momentum"] = history.copy_(tensors[key])
    if state.average is not None:
        state.average.updates = int(header["average_updates"])
    state.iteration = int(header["iteration"])
    state.sums = _sums(header)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any], dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header.get("format") != FORMAT:
            raise ValueError(f"the format is {header.get('format')}, expected {FORMAT}")
        int(header["iteration"]), int(header["average_updates"]), _sums(header)
        record = json.loads(header["record"])
        if not isinstance(record, dict):
            raise ValueError("its record is no object")
    except (
        SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path}: no whole checkpoint: {error}") from error
    return header, record, tensors


def _sums(header: Mapping[str, str]) -> tuple[float, float, int]:
    losses, norms, updates = json.loads(header.get("sums", "[0, 0, 0]"))  # earlier files: none
    return float(losses), float(norms), int(updates)
