"""Whether a net is still what something was made of, told without a walk over its modules.

A walk (`modules()`, `eval()`, `named_parameters()`) goes down the tree in Python, and of ResNet-101
takes as long as a GPU takes for half an image. A snapshot has the modules in lists, which it
compares as wholes: a tenth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import nn

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HELD = ("_modules", "_parameters", "_buffers")
# of a module's own attributes those that may decide its result
_PLAIN = (int, float, bool, str, tuple, type(None))
_OURS = ("torch.nn.modules.", __name__.partition(".")[0] + ".")

_version = attrgetter("_version")


class Snapshot:
    """The modules of a net, what decides their results, and its weights.

    Modules of this package and of `torch.nn` are compared with all their numbers and flags but
    `training`; of others, only what they consist of. The net itself is not kept alive.

    Attributes:
        is_ours: whether all modules are of this package or of torch.nn, without hooks or a forward
            of their own, and their weights plain tensors: a copy of the modules computes the same.
        has_own_modes: whether to call `eval` may do more than to set flags.
        tensors: parameters and buffers, each once.
    """

    def __init__(self, net: nn.Module) -> None:
        modules = list(net.modules())
        self._kinds: list[type[nn.Module]] = [*map(type, modules)]
        self._parts = modules[1:]
        self._sizes = [len(m.__dict__) for m in modules]
        self._held = [m.__dict__[name] for m in modules for name in _HELD]
        self._hooks = [m.__dict__[name] for m in modules for name in _HOOKS]
        members = [*chain.from_iterable(held.values() for held in self._held)]
        self._ids = [*map(id, members)]  # of what lives as long as this
        self.tensors = [*{id(t): t for t in members if isinstance(t, torch.Tensor)}.values()]
        self._getters = [_settings(m) for m in modules]
        self._values = self._settings(net)
        self.is_ours = (
            all(map(_is_ours, modules))
            and not any(self._hooks)
            and all(
                type(t) in (torch.Tensor, nn.Parameter) and not t.is_meta and not t.is_inference()
                for t in self.tensors
            )
        )
        self.has_own_modes = any(
            kind.train is not nn.Module.train or kind.eval is not nn.Module.eval
            for kind in self._kinds
        )

    def modules(self, net: nn.Module) -> Iterator[nn.Module]:
        """All of them, `net` first."""
        yield net
        yield from self._parts

    def fits(self, net: nn.Module) -> bool:
        """Whether the net has the same modules and tensors, with the same settings."""
        modules = net, *self._parts
        if [*map(type, modules)] != self._kinds:
            return False
        members = chain.from_iterable(map(dict.values, self._held))
        if [*map(id, members)] != self._ids or (self.is_ours and any(self._hooks)):
            return False
        if self.is_ours and [len(m.__dict__) for m in modules] != self._sizes:
            return False
        try:
            return self._settings(net) == self._values
        except KeyError:  # one is gone
            return False

    def _settings(self, net: nn.Module) -> list[Any]:
        modules = net, *self._parts
        return [get(m.__dict__) for get, m in zip(self._getters, modules, strict=True)]

    def weights(self) -> tuple[int, ...] | None:
        """Addresses and versions of all tensors; None where they have none.

        Every change through torch makes another version, but not what is written through `.data`,
        through NumPy, or by a replayed CUDA graph.
        """
        try:
            return (*map(_version, self.tensors), *map(torch.Tensor.data_ptr, self.tensors))
        except RuntimeError:  # inference tensors have no version, some classes no address
            return None


def _is_ours(module: nn.Module) -> bool:
    own = module.__dict__
    # a forward of the instance's own, or a compiled one, may hold other modules
    if "forward" in own or own.get("_compiled_call_impl") is not None:
        return False
    return f"{type(module).__module__}.".startswith(_OURS)


def _settings(module: nn.Module) -> Callable[[Any], Any]:
    """Of its __dict__, the values that are compared."""
    if not _is_ours(module):
        return lambda own: None
    own: Iterable[tuple[str, Any]] = module.__dict__.items()
    names = [k for k, v in own if type(v) in _PLAIN and k != "training"]
    return itemgetter(*names) if names else lambda own: None
