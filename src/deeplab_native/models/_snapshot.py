"""Whether a net is still what something was made of, told without a walk over its modules.

A walk (`modules()`, `eval()`, `named_parameters()`) goes down the tree in Python: of ResNet-101 it
takes 1 to 2 ms, a third of the time that a GPU needs for one image. A snapshot has the modules in a
list and compares what they hold by identity, some 0.3 ms for ResNet-101.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_, itemgetter
from typing import Any, NamedTuple

import torch
from torch import nn

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
# of a module's own attributes what decides its result; tuples of them as well
_PLAIN = (int, float, bool, str, tuple, type(None))
_OURS = ("torch.nn.modules.", __name__.partition(".")[0] + ".")


class _Module(NamedTuple):
    module: nn.Module | None  # None is the net itself, which nothing here may keep alive
    kind: type
    children: tuple[nn.Module | None, ...]
    tensors: tuple[torch.Tensor | None, ...]
    size: int  # of the module's __dict__
    attributes: Callable[[Any], Any] | None  # those that are compared; None of foreign modules
    values: Any


class Snapshot:
    """The modules of a net, what decides their results, and its weights.

    Modules of this package and of `torch.nn` are compared with all their numbers and flags but
    `training`; of others, only what they consist of.

    Attributes:
        is_ours: whether all modules are of this package or of torch.nn, without hooks, and their
            weights plain tensors, so that a copy of the modules computes the same.
        tensors: parameters and buffers, each once.
    """

    def __init__(self, net: nn.Module) -> None:
        self._modules = [_of(m, is_root=m is net) for m in net.modules()]
        found = (t for m in self._modules for t in m.tensors if t is not None)
        self.tensors = list({id(t): t for t in found}.values())
        self.is_ours = all(m.attributes is not None for m in self._modules) and all(
            type(t) in (torch.Tensor, nn.Parameter) and not t.is_meta and not t.is_inference()
            for t in self.tensors
        )
        self._hooks = [m.__dict__[name] for m in self.modules(net) for name in _HOOKS]
        self.is_ours = self.is_ours and not any(self._hooks)
        # whose `eval` may do more than to set a flag
        self.has_own_modes = any(
            m.kind.train is not nn.Module.train or m.kind.eval is not nn.Module.eval
            for m in self._modules
        )

    def modules(self, net: nn.Module) -> Iterable[nn.Module]:
        """All of them, `net` first."""
        return (net if m.module is None else m.module for m in self._modules)

    def fits(self, net: nn.Module) -> bool:
        """Whether the net has the same modules and tensors, with the same settings."""
        for kept in self._modules:
            module = net if kept.module is None else kept.module
            own = module.__dict__
            if type(module) is not kept.kind or not _are(own["_modules"], kept.children):
                return False
            if not _are_tensors(own, kept.tensors):
                return False
            if kept.attributes is not None:
                if len(own) != kept.size:
                    return False
                try:
                    values = kept.attributes(own)
                except KeyError:
                    return False
                if not all(map(is_, values, kept.values)):
                    return False
        return not (self.is_ours and any(self._hooks))

    def weights(self) -> tuple[int, ...] | None:
        """Addresses and versions of all tensors; None where they have none.

        Every change through torch makes another version, but not what is written through `.data`,
        through NumPy, or by a replayed CUDA graph.
        """
        try:
            versions = [t._version for t in self.tensors]
            return (*versions, *[t.data_ptr() for t in self.tensors])
        except RuntimeError:  # inference tensors have no version, some classes no address
            return None


def _of(module: nn.Module, *, is_root: bool) -> _Module:
    own = module.__dict__
    kind = type(module)
    attributes, values = None, None
    # a forward of the instance's own, or a compiled one, may hold other modules
    special = "forward" in own or own.get("_compiled_call_impl") is not None
    if f"{kind.__module__}.".startswith(_OURS) and not special:
        # of two names at least, so that itemgetter gives a tuple
        names = [k for k, v in own.items() if type(v) in _PLAIN and k != "training"]
        attributes = itemgetter("_modules", "_parameters", *names)
        values = attributes(own)
    tensors = (*own["_parameters"].values(), *own["_buffers"].values())
    children = tuple(own["_modules"].values())
    return _Module(
        None if is_root else module, kind, children, tensors, len(own), attributes, values
    )


def _are(held: dict[str, Any], kept: tuple[Any, ...]) -> bool:
    return len(held) == len(kept) and all(map(is_, held.values(), kept))


def _are_tensors(own: dict[str, Any], kept: tuple[Any, ...]) -> bool:
    parameters, buffers = own["_parameters"], own["_buffers"]
    if not buffers:
        return _are(parameters, kept)
    return len(parameters) + len(buffers) == len(kept) and all(
        map(is_, (*parameters.values(), *buffers.values()), kept)
    )
