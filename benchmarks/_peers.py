"""The implementations that gpu_suite.py compares with, in a folder that is put on the path."""

from __future__ import annotations

import importlib.util
from importlib.machinery import PathFinder
from pathlib import Path

MONAI = ("monai_phl", "monai._C")  # modules that have its phl_filter


def find_monai(folder: Path | None) -> str | None:
    """The module with MONAI's phl_filter in a folder of peers."""
    for name in MONAI if folder else ():
        *packages, module = name.split(".")
        if PathFinder.find_spec(module, [str(folder.joinpath(*packages))]):
            return name
    return None


def missing_peers(folder: Path | None) -> dict[str, str]:
    """Peers that there are no ratios to, and why."""
    where = "no --peers FOLDER" if folder is None else f"not in {folder}"
    missing = {} if find_monai(folder) else {"MONAI's filter": where}
    found = importlib.util.find_spec("pydensecrf")
    found = found or PathFinder.find_spec("pydensecrf", [str(folder)])
    return missing | ({} if found else {"pydensecrf": where})
