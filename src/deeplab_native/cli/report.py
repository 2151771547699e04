"""Tables about a label map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from .. import viz
from . import console


def label_table(
    num_labels: int, *, names: Sequence[str] | None = None, **maps: np.ndarray
) -> Table:
    """The share of every label that occurs in one of the named (H, W) label maps.

    Labels without names are VOC's where there are as many.
    """
    if names is None:
        names = viz.VOC_CLASSES if num_labels == len(viz.VOC_CLASSES) else ()
    shares = [np.bincount(m.ravel(), minlength=num_labels) / m.size for m in maps.values()]
    result = console.table("label", *maps)
    for label in np.flatnonzero(np.sum(shares, axis=0)):
        name = f"{label} {names[label]}" if names else str(label)
        result.add_row(name, *(f"{share[label]:.2%}" for share in shares))
    return result
