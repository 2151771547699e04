"""Changes of a net's layers that can be taken back, as `set_output_stride` makes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from .._integers import pair
from ..layers import AtrousAvgPool2d, AtrousConv2d, AtrousMaxPool2d
from ._atrous_calls import Call, Change, Pair, padded_by, times, with_atrous_calls
from ._grid import GridTrace, Site, layer_of

EDITS = "_output_stride_edits"  # where a net keeps those that it has
_ABSENT = "(absent)"


@dataclass
class Edit:
    """Attributes of one module, and perhaps its class, before and after; picklable with the net."""

    name: str
    module: nn.Module
    before: dict[str, Any]
    after: dict[str, Any]
    own_class: type
    pool_class: type | None = None
    with_calls: bool = field(default=False)

    @classmethod
    def of(cls, name: str, module: nn.Module, **after: Any) -> Edit:
        before = {key: module.__dict__.get(key, _ABSENT) for key in after}
        return cls(name, module, before, after, type(module))

    def apply(self) -> None:
        self.module.__dict__.update(self.after)
        if self.with_calls:
            self.module.__class__ = with_atrous_calls(self.own_class)
        elif self.pool_class is not None:
            self.module.__class__ = self.pool_class

    def revert(self) -> None:
        self.module.__class__ = self.own_class
        for key, value in self.before.items():
            if value is _ABSENT or value == _ABSENT:
                self.module.__dict__.pop(key, None)
            else:
                self.module.__dict__[key] = value


def check_untouched(edits: Iterable[Edit]) -> None:
    """ValueError where somebody else has changed what would be taken back."""
    for edit in edits:
        for key, value in edit.after.items():
            now = edit.module.__dict__.get(key, _ABSENT)
            if now != value:
                raise ValueError(
                    f"model: {key.lstrip('_')} of {edit.name} was changed to {now} since the last "
                    f"set_output_stride, which had made it {value}; bring the net to its own "
                    "stride first, then change it"
                )


def edits_for(trace: GridTrace) -> list[Edit]:
    """What turns the net that was followed into the one with the asked-for output stride."""
    edits = []
    calls: dict[nn.Module, dict[tuple[str, int], tuple[Call, Change]]] = defaultdict(dict)
    for site, change in trace.changes.items():
        if site.call is not None:
            call = trace.calls[site]
            if change.rate != (1, 1) or change.stride != call.stride:
                calls[site.module][site.call] = (call, change)
            continue
        edit = _edit_of_layer(trace, site, change)
        if edit is not None:
            edits.append(edit)
    for module, changes in calls.items():
        kinds = {kind for kind, _ in changes}
        counts = {k: tuple(sorted({run[k] for run in trace.counts[module]})) for k in kinds}
        name = trace.names.get(module) or "the model"
        edit = Edit.of(name, module, atrous_calls=changes, atrous_counts=counts)
        edit.with_calls = True
        edits.append(edit)
    return edits


def _edit_of_layer(trace: GridTrace, site: Site, change: Change) -> Edit | None:
    module = site.module
    layer = layer_of(module)
    if layer is None:  # of a site that is a module, it is one
        raise AssertionError(f"{module} is no layer")
    kind, kernel, stride = layer
    if change.rate == (1, 1) and change.stride == stride:
        return None
    name = trace.names.get(module) or "the model"
    if kind == "pad":
        return Edit.of(name, module, padding=padded_by(module.padding, change.rate))
    if kind != "conv":
        return _edit_of_pool(name, module, kind, change)
    after: dict[str, Any] = {"stride": change.stride}
    rate = "_rate" if isinstance(module, AtrousConv2d) else "dilation"
    if kernel != (1, 1):
        after[rate] = times(getattr(module, rate), change.rate)
    padding: Any = module.padding
    if not isinstance(padding, str):
        after["padding"] = times(pair("padding", padding, least=0), change.rate)
    if getattr(module, "padding_mode", "zeros") != "zeros":
        own = module._reversed_padding_repeated_twice
        after["_reversed_padding_repeated_twice"] = list(padded_by(own, change.rate))
    return Edit.of(name, module, **after)


def _edit_of_pool(name: str, module: nn.Module, kind: str, change: Change) -> Edit:
    one: Pair = (1, 1)
    edit = Edit.of(
        name,
        module,
        stride=change.stride,
        rate=times(module.__dict__.get("rate", one), change.rate),
        undone_stride=times(module.__dict__.get("undone_stride", one), change.undone),
    )
    edit.pool_class = _atrous_class(type(module), kind)
    return edit


def _atrous_class(own: type, kind: str) -> type:
    base = AtrousMaxPool2d if kind == "max_pool" else AtrousAvgPool2d
    return own if issubclass(own, base) else base


def apply(edits: Iterable[Edit]) -> None:
    for edit in edits:
        edit.apply()


def revert(edits: list[Edit]) -> None:
    for edit in reversed(edits):
        edit.revert()
