"""Caffe's SGD, and the groups of parameters that the authors' solvers treat differently."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..models.base import DeepLab

if TYPE_CHECKING:
    from .config import Optimizer


class CaffeSGD(torch.optim.Optimizer):
    """V <- momentum V + lr (g + weight_decay w); w <- w - V.

    torch.optim.SGD keeps V / lr instead, so that a change of the rate acts at once on what the
    momentum still holds. With `poly`, whose rate changes at every iteration, the two are not the
    same method; the published numbers were made with this one.

    Args:
        params: parameters, or groups of them with their own `lr` and `weight_decay`.
        lr, momentum, weight_decay: of groups that do not say; `lr` may be changed in
            `param_groups` between steps, also into a tensor of no dimensions on the parameters'
            device, whose value may change within a CUDA graph.

    Raises:
        ValueError: a negative or infinite rate or decay, a momentum outside 0 <= m < 1.

    Source: Caffe's solver (SGDSolver), as the authors used it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
    ) -> None:
        for name, value in (("lr", lr), ("weight_decay", weight_decay)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a number of at least 0, got {value}")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum: expected 0 <= momentum < 1, got {momentum}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        `closure` computes the loss anew, with gradients on; its value is returned, None without it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            # parameters without gradient rest, those of a trunk that is frozen, too
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if "momentum" not in self.state[weight]:
                    # of the weight's memory layout, or the sums below would be slow
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            history = [self.state[weight]["momentum"] for weight in weights]
            changes = torch._foreach_add(
                [p.grad for p in weights], weights, alpha=group["weight_decay"]
            )
            torch._foreach_mul_(history, group["momentum"])
            if isinstance(group["lr"], torch.Tensor):
                torch._foreach_mul_(changes, group["lr"])
                torch._foreach_add_(history, changes)
            else:
                torch._foreach_add_(history, changes, alpha=group["lr"])
            torch._foreach_sub_(weights, history)
        return loss


def parameter_groups(model: DeepLab, config: Optimizer) -> list[dict[str, Any]]:
    """The parameters that are trained, in four groups with `name`, `lr_multiplier`, `weight_decay`.

    Section 4.1 and the authors' solvers: the classifier learns 10 times as fast, every bias twice
    as fast as its weights and without decay. Frozen batch normalisation is in no group.
    """
    last = {id(p) for layer in model.classifiers() for p in layer.parameters()}
    groups: dict[str, list[nn.Parameter]] = {
        "trunk_weight": [],
        "trunk_bias": [],
        "classifier_weight": [],
        "classifier_bias": [],
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = "classifier" if id(parameter) in last else "trunk"
            kind = "bias" if name.endswith(".bias") else "weight"
            groups[f"{part}_{kind}"].append(parameter)
    return [
        {
            "name": name,
            "params": parameters,
            "lr_multiplier": getattr(config, name).lr,
            "weight_decay": config.weight_decay * getattr(config, name).decay,
        }
        for name, parameters in groups.items()
        if parameters
    ]


def make_optimizer(model: DeepLab, config: Optimizer) -> CaffeSGD:
    """`CaffeSGD` of `parameter_groups`."""
    return CaffeSGD(parameter_groups(model, config), config.lr, config.momentum)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Every group gets `rate` times its multiplier."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_multiplier"]
