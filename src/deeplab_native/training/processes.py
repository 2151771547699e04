"""The processes of a run: devices and precision by Lightning Fabric, and what they agree on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from torch import distributed

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from .config import Config


def make_fabric(config: Config) -> Fabric:
    """Fabric, with its processes started or joined.

    Under torchrun the processes are those that it started, whatever `devices` and `nodes` say.

    Raises ValueError where `batch` cannot be shared among them.
    """
    from lightning.fabric import Fabric

    devices, nodes = config.devices, config.nodes
    if distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif devices == "auto" and (config.accelerator == "cpu" or not torch.cuda.is_available()):
        devices = 1  # by default, Fabric takes all cores' worth of processes
    elif devices == "auto":
        devices = torch.cuda.device_count()  # one is no reason for processes that talk
    check_shares(config, devices * nodes)
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if devices == 1 and nodes == 1 else "ddp",
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
    )
    fabric.launch()
    check_shares(config, fabric.world_size)
    return fabric


def check_shares(config: Config, processes: int) -> None:
    """Raises ValueError where a forward pass cannot have as many images in every process."""
    if config.batch % (config.accumulate * processes):
        raise ValueError(
            f"batch: expected a multiple of accumulate {config.accumulate} x {processes} "
            f"processes, got {config.batch} (change batch, accumulate or the processes)"
        )


def mean_of_all(value: torch.Tensor) -> torch.Tensor:
    """The mean over all processes."""
    if distributed.is_initialized():
        distributed.all_reduce(value)
        value = value / distributed.get_world_size()
    return value


def sum_of_all(counts: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The sum over all processes, on the CPU; `device` is that of the processes."""
    if not distributed.is_initialized():
        return counts
    moved = counts.to(device)
    distributed.all_reduce(moved)
    return moved.cpu()


def largest_of_all(number: int, device: torch.device) -> int:
    """The largest over all processes; `device` is that of the processes."""
    if not distributed.is_initialized():
        return number
    value = torch.tensor(number, device=device)
    distributed.all_reduce(value, op=distributed.ReduceOp.MAX)
    return int(value)
