"""What a layer needs of one that lies above it, by name.

A net is made with `weights=` and has methods that save it, but what reads weights files and talks
to a hub knows the nets, and so lies above them. `models` therefore asks for a function by its name
here, and the package's `__init__.py`, which knows every layer, says where it is. Its module is
imported when it is asked for, not before.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # as in the package's __init__.py, which imports this
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

PLACES: dict[str, str] = {}
"""name -> "module.function" within the package."""


def provide(places: Mapping[str, str]) -> None:
    PLACES.update(places)


def late(name: str) -> Callable[..., Any]:
    """The function of that name, looked up anew at every call: a replaced one counts."""
    module, _, function = PLACES[name].rpartition(".")
    found: Callable[..., Any] = getattr(
        importlib.import_module(f".{module}", __package__), function
    )
    return found
