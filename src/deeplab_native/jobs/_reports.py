"""What the reports of all jobs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .. import viz
from ..crf import CRFParams

REPORT = "report.html"
_MOST = 100  # images that are named


def paste(params: CRFParams | Mapping[str, Any]) -> str:
    """The parameters as Python code."""
    values = asdict(params) if isinstance(params, CRFParams) else params
    return f"CRFParams({', '.join(f'{name}={_code(value)}' for name, value in values.items())})"


def _code(value: Any) -> str:
    if isinstance(value, list | tuple):  # a sigma for every channel or axis
        return f"({', '.join(map(_code, value))}{',' if len(value) == 1 else ''})"
    # 12 digits: exact for steps that were halved ten times
    return f"{value:.12g}"


def left_out(html: viz.HTMLReport, failed: Mapping[str, str]) -> None:
    """Images that could not be used, and why."""
    if not failed:
        return
    html.section("Left out")
    html.text(f"{len(failed)} images could not be used, and are in no number above.")
    html.facts(dict(list(failed.items())[:_MOST]))
    if len(failed) > _MOST:
        html.text(f"And {len(failed) - _MOST} more.")


def machine_of(device: str) -> dict[str, str]:
    """Facts beside the processor: the GPU where one was used."""
    if device == "cpu":
        return {}
    import torch

    return {"GPU": torch.cuda.get_device_name(device)}
