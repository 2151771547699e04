"""A run: from a configuration to trained weights, and on from where it was interrupted."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .._files import sole_writer
from ..weights import save
from .folders import check_folder, prepare, restore
from .interruption import Interruption
from .loop import CHECKPOINTS, Loop, Outcome
from .processes import make_fabric
from .report import machine_of, write_report
from .setup import build_model, describe_data, open_data

if TYPE_CHECKING:
    from .config import Config

WEIGHTS = "net.safetensors"


def train(
    config: Config,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    report: bool = True,
    command: str | None = None,
) -> Outcome:
    """Trains a net as the configuration says.

    `out` gets `net.safetensors` (of the averaged weights with `ema`), `checkpoints/`,
    `training.csv`, `validation.csv`, `tensorboard/`, `pictures/`, `config.yaml` and, at its end,
    `report.html`. The first
    SIGINT or SIGTERM writes a checkpoint and ends the run. A run that goes on gives the same
    weights, to the bit, as one that was not interrupted, on the same machine and threads (on a GPU
    as far as its kernels are deterministic). All processes must see `out` in one file system.

    PyTorch's generator is seeded anew for every update, and its number of threads is set.

    Args:
        config: of `load_config`.
        out: the folder; it must be empty or new without `resume`.
        resume: goes on from the last whole checkpoint there; without one it begins anew.
        report: whether report.html is written: curves, figures and pictures in one file.
        command: what the report says to repeat it by.

    Raises:
        ValueError: `out` has files already, or a checkpoint of another configuration, or another
            process is writing there; data, weights and net do not fit together; and what
            `open_dataset`, `create_model` and `weights.load` raise.
        SampleError: a sample cannot be used, and the configuration says "stop".
        FloatingPointError: the loss is no longer finite: iteration, rate and samples are named.
        OSError: something cannot be read or written; checkpoints from before are whole.
    """
    out = Path(out)
    check_folder(out, resume=resume)
    data = open_data(config)
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    net = build_model(config, len(data.train.classes))
    describe_data(net, data.train, config)
    fabric = make_fabric(config)
    loop = Loop(config, out, fabric, data, net)
    with Interruption() as interruption, ExitStack() as stack:
        if resume:
            restore(out / CHECKPOINTS, loop.state, config, quiet=not fabric.is_global_zero)
        fabric.barrier()  # every process has looked at the folder
        if fabric.is_global_zero:
            stack.enter_context(sole_writer(out))
            prepare(out, config, loop.state.iteration)
        outcome = loop.train(interruption)
        if not outcome.interrupted_by and fabric.is_global_zero:
            with loop.averaged():
                save(loop.net, out / WEIGHTS)
            outcome.weights = out / WEIGHTS
            if report:
                classes = data.train.classes, data.train.palette.tolist()
                write_report(
                    out,
                    title=f"{config.model.name} on {data.train.title}",
                    # overlays leave the first class as the photograph is
                    colours=list(zip(*classes, strict=True))[1:],
                    command=command,
                    machine=machine_of(fabric.device),
                )
    return outcome
