"""`deeplab-native info`: what this build is and what it found on this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from . import options

if TYPE_CHECKING:
    from rich.table import Table

EXAMPLES = "[bold]Example[/]  [cyan]deeplab-native info[/]  (say this when you report a problem)"


def run(json: options.Json = False) -> None:
    """Show versions, instruction set, CUDA, threads, the CRF presets and the networks."""
    import platform
    from dataclasses import asdict

    import numpy as np
    import torch
    from rich.text import Text

    from .. import _C, __version__, _native
    from ..crf import PRESETS
    from ..models import list_models
    from . import console
    from .report import describe

    build = {
        "deeplab_native": __version__,
        "CUDA in this build": f"for {_C.cuda_architectures}" if _C.has_cuda else "no",
        **dict(_gpus(_C.cuda_architectures)),
        "instruction set": f"{_C.isa()} (available: {', '.join(_C.available_isas())})",
        "threads": str(_native.num_threads()),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    values = {
        **build,
        "presets": {name: asdict(params) for name, params in PRESETS.items()},
        "networks": [net.name for net in list_models()],
    }
    console.result(
        json,
        values,
        console.facts(*build.items()),
        Text("\nCRF presets", style="bold underline"),
        console.facts(*((name, describe(params)) for name, params in PRESETS.items())),
        Text("\nNetworks", style="bold underline"),
        _networks(),
    )


def _networks() -> Table:
    """A row for each net: its parameters with 21 classes, sizes in pixels of the input."""
    from ..models import list_models
    from . import console

    table = console.table("", "parameters", "view", "stride", "in the paper")
    table.columns[0].no_wrap = True
    table.columns[-1].justify = "left"
    for net in list_models():
        sizes = f"{net.parameters() / 1e6:.1f} M", str(net.field_of_view), str(net.output_stride)
        table.add_row(net.name, *sizes, net.paper_row)
    table.caption = (
        "parameters with 21 classes; field of view and output stride in pixels; mean IoU on "
        "PASCAL VOC 2012 val in %, before / after the CRF"
    )
    table.caption_justify = "left"
    return table


def _gpus(architectures: str) -> list[tuple[str, str]]:
    """A row for each GPU, or one that says why there is none; never raises."""
    import torch

    try:
        if torch.version.cuda is None:
            return [("GPU", "none: this torch was built without CUDA")]
        if not torch.cuda.is_available():
            return [("GPU", "none found (nvidia-smi says what the driver sees)")]
        rows = []
        for index in range(torch.cuda.device_count()):
            capability = torch.cuda.get_device_capability(index)
            name = f"{torch.cuda.get_device_name(index)}, {capability[0]}.{capability[1]}"
            rows.append((f"GPU {index}", f"{name}: {_match(capability, architectures)}"))
        return rows
    except (RuntimeError, AssertionError) as error:  # a driver that does not fit, a lost GPU
        return [("GPU", f"cannot be asked: {str(error).splitlines()[0]}")]


def _match(capability: tuple[int, int], architectures: str) -> str:
    """Whether kernels for "75-real, 80-real, 90" run on a GPU.

    Machine code runs on every later minor version of its own major one, PTX on every later version.
    """
    if not architectures:
        return "the native ops run on the CPU only"
    ptx = False
    for major, minor, kind in re.findall(r"(\d+)(\d)[a-z]?(-real|-virtual)?", architectures):
        built = int(major), int(minor)
        if kind != "-virtual" and built[0] == capability[0] and built[1] <= capability[1]:
            return "supported by this build"
        ptx |= kind != "-real" and built <= capability
    if ptx:
        return "supported by this build (the driver compiles the kernels at their first use)"
    return (
        "NOT supported by this build; install it again with "
        "-Ccmake.define.CMAKE_CUDA_ARCHITECTURES=native"
    )
