"""How long an update takes on this machine."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from .loop import Loop
from .processes import make_fabric
from .progress import Reporter
from .setup import build_model, open_data

if TYPE_CHECKING:
    from .config import Config

_UPDATES = 3  # the first of which allocates


class Pace(NamedTuple):
    """Seconds of an update of the head alone, and of the whole net."""

    head: float
    whole: float


def measure_pace(config: Config) -> Pace:
    """By three updates of each kind, whose weights are dropped; the faster of the last two counts.

    Raises what `train` raises before its first update, and in it.
    """
    data = open_data(config)
    net = build_model(config, len(data.train.classes))
    loop = Loop(config, Path(), make_fabric(config), data, net)
    loop.net.train()
    reporter = Reporter(_UPDATES, 0, quiet=True)
    found = []
    for rests in (True, False):
        loop.rest_trunk(rests)
        steps = loop.steps(0, _UPDATES, reporter, None)
        seconds = []
        for _ in range(_UPDATES):
            start = perf_counter()
            steps.update(config.optimizer.lr / 1000)
            seconds.append(perf_counter() - start)
        found.append(min(seconds[1:]))
    return Pace(*found)
