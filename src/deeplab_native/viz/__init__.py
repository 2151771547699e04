"""Pictures: colours of labels, label PNGs, overlays, and figures of beliefs and results.

Pixels go out as uint8 arrays or PNG files, figures as `matplotlib.figure.Figure`, which
`save_figure`, `to_png` and `to_svg` write; all take NumPy arrays and lists. Importing this imports
NumPy alone: Pillow comes when a file is written, matplotlib when a figure is drawn, and pyplot
never.

>>> figure = draw_confusion_matrix(counts, classes)
>>> save_figure("confusion.svg", figure)

`HTMLReport` puts figures, tables and pictures into one file that needs no other.
"""

from .belief_maps import draw_belief_maps
from .curves import Spread, draw_bench_chart, draw_curves
from .evaluation import (
    draw_class_iou,
    draw_confusion_matrix,
    draw_evaluation,
    draw_trimap_curve,
)
from .figures import heat, save_figure, to_png, to_svg
from .heat_maps import draw_heat_maps
from .palettes import PALETTES, VOC_CLASSES, named_palette, voc_palette
from .pictures import boundaries, count_labels, label_png, overlay, save_label_png, save_png
from .report import HTMLReport, Shot

__all__ = [
    "PALETTES",
    "VOC_CLASSES",
    "HTMLReport",
    "Shot",
    "Spread",
    "boundaries",
    "count_labels",
    "draw_belief_maps",
    "draw_bench_chart",
    "draw_class_iou",
    "draw_confusion_matrix",
    "draw_curves",
    "draw_evaluation",
    "draw_heat_maps",
    "draw_trimap_curve",
    "heat",
    "label_png",
    "named_palette",
    "overlay",
    "save_figure",
    "save_label_png",
    "save_png",
    "to_png",
    "to_svg",
    "voc_palette",
]
