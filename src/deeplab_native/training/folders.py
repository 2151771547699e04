"""The folder of a run: whose it is, and where it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import atomic_path, check_inside, remove_leftovers
from .checkpoints import State, checkpoints_in, load_checkpoint, read_record, remove_old
from .config_file import dump_config
from .progress import say

if TYPE_CHECKING:
    from .config import Config

CONFIG = "config.yaml"
# what may change between two halves of a run, because the weights do not depend on it
_FREE = {
    *("validation", "checkpoints", "log_every", "crf", "paper"),
    *("devices", "nodes", "threads", "accelerator", "graph"),
}
_FREE_OF_DATA = {"root", "val", "workers", "on_bad_sample"}
# what checkpoints of before these keys mean without them
_BEFORE: dict[str, Any] = {"data.on_device": False, "data.device_memory": 8.0}


def check_folder(out: Path, *, resume: bool) -> None:
    """Raises ValueError or NotADirectoryError where `out` is not free."""
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"`out` {out} is a file (give a folder)")
    if not resume and out.exists() and any(not p.name.startswith(".") for p in out.iterdir()):
        what = "a run" if (out / CONFIG).is_file() else "files"
        raise ValueError(f"`out` {out}: has {what} already (give another, or go on with `resume`)")


def prepare(out: Path, config: Config, iteration: int) -> None:
    """Makes the folder, writes `config.yaml`, removes what a killed process left.

    iteration: of the checkpoint that the run goes on from; 0 for none. Raises ValueError where a
    link in the folder leads out of it.
    """
    out.mkdir(parents=True, exist_ok=True)
    check_inside(out, [out / name for name in ("checkpoints", "pictures", "tensorboard")])
    folders = (path for path in out.rglob("*") if path.is_dir() and not path.is_symlink())
    remove_leftovers([out, *folders])
    remove_old(out / "checkpoints", iteration, keep=config.checkpoints.keep)
    with atomic_path(out / CONFIG) as temporary:
        temporary.write_text(dump_config(config), encoding="utf-8")


def restore(folder: Path, state: State, config: Config, *, quiet: bool = False) -> Path | None:
    """Puts the newest whole checkpoint into `state` and, unless `quiet`, says so on stderr.

    Returns None where there is none.

    Raises ValueError where it was made with another configuration.
    """
    for path in checkpoints_in(folder):
        try:
            record = read_record(path)
        except ValueError as error:
            if not quiet:
                say(f"{error}: passed over")
            continue
        different = _differences(record.get("config", {}), config.model_dump(mode="json"))
        if different:
            raise ValueError(
                f"{path}: made with another configuration: {'; '.join(different)} "
                "(set it back, or give another `out`)"
            )
        load_checkpoint(path, state)
        if not quiet:
            say(f"going on from {path}")
        return path
    return None


def _differences(there: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    free = _FREE_OF_DATA if prefix == "data." else (_FREE if not prefix else set())
    result = []
    for key in sorted(now.keys() | there.keys()):
        a, b = there.get(key, _BEFORE.get(prefix + key)), now.get(key)
        if a == b or key in free:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            result += _differences(a, b, f"{prefix}{key}.")
        else:
            result.append(f"{prefix}{key} {json.dumps(a)}, now {json.dumps(b)}")
    return result
