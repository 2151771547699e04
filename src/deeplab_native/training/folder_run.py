"""From somebody's folder of photographs and labels to a configuration of a run on it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .._files import sole_writer
from ..data.own_data import OwnData, find_data
from .folders import check_folder
from .own_data import DATA, LONGEST_SIDE, PARTS, describe_source, write_data
from .plan import Plan, plan_run


def plan_folder(
    folder: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    minutes: float | None = None,
    longest_side: int | None = None,
    overrides: Iterable[str] = (),
    resume: bool = False,
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
        resume: whether OUT/data may be there already, of a call that was ended in its middle.
        say: is told what was found and chosen, a line each.

    Raises what `find_data`, `write_data` and `plan_run` raise; nothing is left in `out` then.
    """
    folder, out = Path(folder), Path(out)
    overrides = tuple(overrides)
    check_folder(out, resume=resume)
    if resume:
        _check_begun(out)
    if out.resolve() in (folder.resolve(), (folder / "images").resolve()):
        raise ValueError(f"`out` {out}: the run would lie among the photographs (give another)")
    data = find_data(folder)
    for line in (describe_source(data), *data.notes):
        say(line)
    side = LONGEST_SIDE if longest_side is None else longest_side
    with _nothing_left(out):
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


def _check_begun(out: Path) -> None:
    """Raises ValueError where there is more than data as `write_data` writes it."""
    for folder, ours in ((out, {DATA}), (out / DATA, PARTS)):
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        others = sorted(name for name in names - ours if not name.startswith("."))
        if others:
            raise ValueError(f"`out` {out}: has files, but no run: {others[0]} (give another)")


@contextmanager
def _nothing_left(out: Path) -> Iterator[None]:
    """Removes the data again where the block raises, and the folder where it was made for it.

    Nobody else writes there meanwhile, or ValueError.
    """
    new = not out.exists()
    with sole_writer(out):
        try:
            yield
        except BaseException:
            shutil.rmtree(out if new else out / DATA, ignore_errors=True)
            raise
