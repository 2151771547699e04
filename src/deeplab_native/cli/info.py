"""`deeplab-native info`: what this build is and what it found on this machine."""

from __future__ import annotations

EXAMPLES = "[bold]Example[/]  [cyan]deeplab-native info[/]  (say this when you report a problem)"


def run() -> None:
    """Show versions, instruction set, CUDA, threads, the CRF presets and the networks."""
    import platform

    import numpy as np
    import torch

    from .. import _C, __version__, _native
    from ..crf import PRESETS
    from ..models import list_models
    from . import console
    from .options import describe

    cuda = torch.cuda.is_available()
    console.out.print(
        console.facts(
            ("deeplab_native", __version__),
            ("CUDA in this build", "yes" if _C.has_cuda else "no"),
            ("CUDA available", f"yes, {torch.cuda.get_device_name()}" if cuda else "no"),
            ("instruction set", f"{_C.isa()} (available: {', '.join(_C.available_isas())})"),
            ("threads", str(_native.num_threads())),
            ("torch", torch.__version__),
            ("numpy", np.__version__),
            ("python", platform.python_version()),
            ("platform", platform.platform()),
        )
    )
    presets = console.facts(*((name, describe(params)) for name, params in PRESETS.items()))
    console.out.print("\nCRF presets", style="bold underline")
    console.out.print(presets)
    console.out.print("\nNetworks, and their mean IoU in the paper", style="bold underline")
    console.out.print(console.facts(*((net.name, net.paper_row) for net in list_models())))
