"""The results of `evaluate`: JSON, CSV and a figure."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import __version__, metrics, viz
from .._files import atomic_path
from ..metrics import SegmentationScores, segmentation_scores
from ._evaluate_examples import Example
from ._reports import REPORT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

JSON, FIGURE = "evaluation.json", "evaluation.png"
CLASSES_CSV, TRIMAP_CSV = "classes.csv", "trimap.csv"
RESULTS = (JSON, REPORT, FIGURE, CLASSES_CSV, TRIMAP_CSV)
# What a table or a curve shows of SegmentationScores, by its name there
MEASURES = {
    "mean_iou": "mean IoU",
    "mean_iou_present": "mean IoU, classes present",
    "mean_class_accuracy": "class accuracy",
    "mean_class_accuracy_present": "class accuracy, classes present",
    "pixel_accuracy": "pixel accuracy",
}


@dataclass(frozen=True)
class Variant:
    """What is known of one way to predict: the whole set, and the trimap of every width."""

    matrix: torch.Tensor  # (L, L)
    scores: SegmentationScores
    trimaps: list[SegmentationScores]

    @classmethod
    def of(cls, counts: np.ndarray, classes: Sequence[int] | None) -> Variant:
        """`counts` (W + 1, L, L): of `metrics.trimap_counts`, summed over the images."""
        tensor = torch.from_numpy(counts)
        matrix = tensor.sum(0)
        return cls(
            matrix,
            segmentation_scores(matrix, classes),
            [segmentation_scores(m, classes) for m in metrics.trimap_matrices(tensor)],
        )


@dataclass(frozen=True)
class Report:
    """Everything that is written.

    `about` are facts for the JSON file; `mean_over` the classes of the means, None for all;
    `examples` images that are worth a look.
    """

    title: str
    classes: tuple[str, ...]
    variants: dict[str, Variant]
    about: dict[str, Any]
    mean_over: list[int] | None
    examples: list[Example] = field(default_factory=list)

    def write(self, folder: Path, html: viz.HTMLReport | None = None) -> list[Path]:
        """Each file whole or not at all; the JSON file last, so that it is never ahead of them.

        Without `html` a report of an earlier run goes, which would say something else.
        """
        written = [folder / CLASSES_CSV]
        _write_csv(written[0], self._class_rows())
        if self._has_trimaps():
            written.append(folder / TRIMAP_CSV)
            _write_csv(written[-1], self._trimap_rows())
        written.append(folder / FIGURE)
        viz.save_figure(folder / FIGURE, self._figure())
        if html is None:
            (folder / REPORT).unlink(missing_ok=True)
        else:
            written.append(folder / REPORT)
            html.write(written[-1])
        written.append(folder / JSON)
        with atomic_path(folder / JSON) as temporary:
            # NaN is no JSON: null
            text = json.dumps(self.record(), indent=1, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
        return written

    def _has_trimaps(self) -> bool:
        return any(variant.trimaps for variant in self.variants.values())

    def _class_rows(self) -> Iterable[Sequence[object]]:
        names = list(self.variants)
        yield [
            "index", "class", "pixels",
            *(f"IoU, {n}" for n in names), *(f"accuracy, {n}" for n in names),
        ]  # fmt: skip
        variants = list(self.variants.values())
        pixels = variants[0].matrix.sum(1).tolist()
        for i, name in enumerate(self.classes):
            ious = [_number(float(v.scores.class_iou[i])) for v in variants]
            accuracies = [_number(float(v.scores.class_accuracy[i])) for v in variants]
            yield [i, name, pixels[i], *ious, *accuracies]

    def _trimap_rows(self) -> Iterable[Sequence[object]]:
        yield ["width", "pixels", *(f"{key}, {n}" for n in self.variants for key in MEASURES)]
        variants = list(self.variants.values())
        for w, first in enumerate(variants[0].trimaps):
            values = [_number(getattr(v.trimaps[w], key)) for v in variants for key in MEASURES]
            yield [w + 1, first.pixels, *values]

    def record(self) -> dict[str, Any]:
        """What evaluation.json holds: figures in 0..1, None where one is not defined."""
        variants = {
            name: {
                **_measures(variant.scores),
                "class_iou": [_number(x) for x in variant.scores.class_iou.tolist()],
                "class_accuracy": [_number(x) for x in variant.scores.class_accuracy.tolist()],
                "confusion_matrix": variant.matrix.tolist(),
                "trimap": [
                    {"width": w, "pixels": scores.pixels, **_measures(scores)}
                    for w, scores in enumerate(variant.trimaps, 1)
                ],
            }
            for name, variant in self.variants.items()
        }
        chosen = range(len(self.classes)) if self.mean_over is None else self.mean_over
        return {
            "deeplab_native": __version__,
            **self.about,
            "classes": list(self.classes),
            "means over": [self.classes[i] for i in chosen],
            "pixels": next(iter(self.variants.values())).scores.pixels,
            "variants": variants,
            "examples": [
                {**one._asdict(), "mean_iou": {n: _number(v) for n, v in one.mean_iou.items()}}
                for one in self.examples
            ],
        }

    def _figure(self) -> Figure:
        curves = {
            name: [scores.mean_iou for scores in variant.trimaps]
            for name, variant in self.variants.items()
        }
        return viz.draw_evaluation(
            {name: v.scores.class_iou.numpy() for name, v in self.variants.items()},
            self.classes,
            curves if self._has_trimaps() else None,
            means={name: v.scores.mean_iou for name, v in self.variants.items()},
            title=self.title,
        )


def _measures(scores: SegmentationScores) -> dict[str, float | None]:
    return {key: _number(getattr(scores, key)) for key in MEASURES}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def percent(value: float) -> str:
    """Of 0..1, two digits; a dash where it is not defined."""
    return "-" if math.isnan(value) else f"{value * 100:.2f}"


def _write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
