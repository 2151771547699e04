"""The networks that a visitor can choose from: the package's own, and files named at the start."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..jobs._segment_image import colours_of
from ..jobs.scores import Scores
from ..models import DeepLab
from ..models.predict import predict
from ..weights import EMBEDDED, EMBEDDED_SIDE, load_model
from .given import Labelling

EMBEDDED_NAME = "Embedded: animals and persons"


class Nets:
    """Loaded once, for all visitors; one of them at a time runs.

    Raises what `weights.load_model` does for a file that cannot be used.
    """

    def __init__(self, files: Sequence[Path] = ()) -> None:
        self._lock = threading.Lock()
        self._nets: dict[str, DeepLab] = {EMBEDDED_NAME: load_model(EMBEDDED)}
        self._files: dict[str, str | None] = {EMBEDDED_NAME: None}
        for file in files:
            if file.name in self._nets:
                raise ValueError(f"{file}: two files of this name (rename one of them)")
            self._nets[file.name] = load_model(file)
            self._files[file.name] = file.name

    def names(self) -> list[str]:
        """What a visitor chooses from, the package's own first."""
        return list(self._nets)

    def label(self, name: str, photo: np.ndarray) -> Labelling:
        """The scores of a photograph (H, W, 3) uint8; ValueError for a name that is none."""
        if name not in self._nets:
            raise ValueError(f"network {name!r}: expected one of {', '.join(self._nets)}")
        net, file = self._nets[name], self._files[name]
        with self._lock:
            side = EMBEDDED_SIDE if file is None else None
            scores = predict(net, photo, longest_side=side).scores.numpy()
        names = tuple(net.class_names or (f"label {i}" for i in range(net.num_classes)))
        colours = np.frombuffer(colours_of(None, net), np.uint8).reshape(-1, 3)
        return Labelling("network", Scores(scores, "logits", said=True), names, colours, file)
