"""From somebody's folder of photographs and labels to a configuration of a run on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..data.own_data import OwnData, find_data
from .folders import check_folder
from .own_data import DATA, LONGEST_SIDE, describe_source, write_data
from .plan import Plan, plan_run


def plan_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    minutes: float | None = None,
    longest_side: int | None = None,
    overrides: Iterable[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> tuple[OwnData, Plan]:
    """Finds the data of a folder, writes OUT/data, and chooses a schedule for it.

    >>> data, plan = plan_folder("photos", "runs/mine")
    >>> train(plan.config, "runs/mine", resume=True)

    Args:
        folder: as of `data.find_data`.
        out: of the run; new or empty.
        minutes: that the run shall take; None: as many as so few photographs need, at most 15.
        longest_side: larger photographs are reduced to it; None: 513.
        overrides: "key.sub=value" each, as of `load_config`; what they say is not chosen.
        say: is told what was found and chosen, a line each.

    Raises what `find_data`, `write_data` and `plan_run` raise; nothing is left in `out` then.
    """
    folder, out = Path(folder), Path(out)
    overrides = tuple(overrides)
    check_folder(out, resume=False)
    if out.resolve() in (folder.resolve(), (folder / "images").resolve()):
        raise ValueError(f"`out` {out}: the run would lie among the photographs (give another)")
    data = find_data(folder)
    for line in (describe_source(data), *data.notes):
        say(line)
    side = LONGEST_SIDE if longest_side is None else longest_side
    with _nothing_left(out, out / DATA):
        reduced = write_data(data, out / DATA, longest_side=side)
        if reduced:
            say(
                f"{reduced} photographs are reduced to {side} pixels (--longest-side PIXELS), and "
                "small things with them"
            )
        plan = plan_run(
            out / DATA,
            images=len(data.split.train),
            longest=min(side, max(max(pair.size) for pair in data.pairs.values())),
            minutes=minutes,
            overrides=overrides,
        )
    say("begins as the network of the package, MobileNetV2 with ASPP")
    for line in plan.notes:
        say(line)
    return data, plan


@contextmanager
def _nothing_left(out: Path, data: Path) -> Iterator[None]:
    """Removes the data again where the block raises, and the folder where it was made for it."""
    new = not out.exists()
    try:
        yield
    except BaseException:
        shutil.rmtree(out if new else data, ignore_errors=True)
        raise
