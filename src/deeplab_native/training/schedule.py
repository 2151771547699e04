"""The learning rate at every iteration (DeepLab v2, section 4.1.1; Caffe's policies)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import Optimizer, Schedule


def learning_rate(schedule: Schedule, optimizer: Optimizer, iteration: int) -> float:
    """Rate of an update, before the multipliers of the groups.

    "poly" is lr (1 - i / iterations)^power, "step" lr gamma^floor(i / step), computed anew at every
    iteration i = 0, 1, ..., as Caffe does. During `warmup` it is multiplied by (i + 1) / warmup.
    The iterations of `head_first` come before i = 0.

    Args:
        iteration: from 0, those of `head_first` included.
    """
    head = schedule.head_first
    if iteration < head.iterations:
        return optimizer.lr if head.lr is None else head.lr
    i = iteration - head.iterations
    rate = optimizer.lr
    if schedule.policy == "poly":
        rate *= max(0.0, 1 - i / schedule.iterations) ** schedule.power
    elif schedule.policy == "step":
        rate *= schedule.gamma ** (i // schedule.step)
    return rate * min(1.0, (i + 1) / schedule.warmup) if schedule.warmup else rate
