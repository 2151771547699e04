"""From any weights file to one of ours, or of deeplab-pytorch, with what belongs to the weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .building import export_deeplab_pytorch, load_model, recognise
from .checkpoint import Checkpoint
from .safetensors_file import save

if TYPE_CHECKING:
    import numpy as np

    from ..crf import CRFParams
    from ..models.base import DeepLab
    from ..models.preprocessing import Preprocessing

SUFFIXES = (".safetensors", ".pth")


def convert(
    path: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    model: str | None = None,
    num_classes: int | None = None,
    source: str | None = None,
    new_layers: str | None = None,
    preprocessing: Preprocessing | None = None,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    palette: np.ndarray | None = None,
    crf: CRFParams | None = None,
    **options: Any,
) -> tuple[DeepLab, Checkpoint]:
    """Reads a weights file of any project and writes it as one of ours.

    Args:
        path: a file that `load` reads.
        output: the file to write: .safetensors, or .pth under deeplab-pytorch's keys.
        model, num_classes, source, new_layers, preprocessing, seed, options: as of `load_model`.
        class_names: of the labels, to keep with the weights.
        palette: their colours, (L, 3) or more rows, 0..255.
        crf: parameters of the CRF that suit them.

    Returns:
        The net, and what the file was recognised as.

    Raises:
        ValueError, OSError: as `load_model` and `save`; another suffix.
    """
    if Path(output).suffix not in SUFFIXES:
        raise ValueError(f"`output` {output}: expected a name that ends in {' or '.join(SUFFIXES)}")
    checkpoint = recognise(path, source=source)
    network = load_model(
        checkpoint,
        model,
        num_classes,
        new_layers=new_layers,
        preprocessing=preprocessing,
        seed=seed,
        **options,
    )
    if class_names is not None:
        network.class_names = tuple(class_names)
    if palette is not None:
        network.palette = tuple(
            (int(r), int(g), int(b)) for r, g, b in palette[: network.num_classes]
        )
    if crf is not None:
        network.crf = crf
    if Path(output).suffix == ".pth":
        export_deeplab_pytorch(network, output)
    else:
        save(network, output)
    return network, checkpoint
