"""The report of an evaluation: report.html, whose numbers are those of evaluation.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .. import viz
from ._evaluate_image import AFTER
from ._evaluate_report import MEASURES, Report, percent
from ._reports import left_out, paste

_WIDTHS = (1, 2, 3, 5, 10, 20, 40)  # of the trimap, in the table
_OF_THE_CRF = ("params", "scale")  # said otherwise, or always 1

Pictures = Mapping[str, tuple[Sequence[viz.Shot], Sequence[tuple[str, Sequence[int]]]]]


def build(
    report: Report, pictures: Pictures, *, command: str | None, machine: Mapping[str, str]
) -> viz.HTMLReport:
    """`pictures`: of the report's examples, by image; those without any are only named."""
    html = viz.HTMLReport("Evaluation", report.title, command, machine)
    _headlines(html, report)
    _classes(html, report)
    if any(variant.trimaps for variant in report.variants.values()):
        _trimaps(html, report)
    _confusion(html, report)
    _examples(html, report, pictures)
    left_out(html, report.about["left out"])
    _parameters(html, report)
    return html


def _headlines(html: viz.HTMLReport, report: Report) -> None:
    *_, (name, last) = report.variants.items()
    before = report.variants.get(name.removesuffix(AFTER)) if name.endswith(AFTER) else None
    keys = ["mean_iou", "mean_iou_present", "pixel_accuracy"]
    if last.scores.mean_iou == last.scores.mean_iou_present:
        keys.remove("mean_iou_present")
    for key in keys:
        value = getattr(last.scores, key)
        note = "" if before is None else f"{percent(getattr(before.scores, key))} % before the CRF"
        html.headline(MEASURES[key], f"{percent(value)} %", note)
    html.headline("images", f"{report.about['images']:,}", f"{last.scores.pixels:,} pixels")


def _classes(html: viz.HTMLReport, report: Report) -> None:
    variants = report.variants
    ious = {name: v.scores.class_iou.numpy() for name, v in variants.items()}
    means = {name: v.scores.mean_iou for name, v in variants.items()}
    gain = ["by the CRF"] if _pair(report) else []

    def row(name: str, *cells: str, values: Sequence[float]) -> list[str]:
        change = [_points(values[-1] - values[-2])] if gain else []
        return [name, *cells, *map(percent, values), *change]

    html.section("IoU of every class")
    html.figure(
        viz.draw_class_iou(ious, report.classes, means=means),
        "Bars: the IoU of every class. The table below has the numbers.",
    )
    pixels = next(iter(variants.values())).matrix.sum(1).tolist()
    total = max(1, sum(pixels))
    rows = []
    for i, name in enumerate(report.classes):
        values = [float(one[i]) for one in ious.values()]
        counted = report.mean_over is None or i in report.mean_over
        if not all(map(math.isnan, values)):
            label = name if counted else f"({name})"
            rows.append(row(label, f"{pixels[i] / total:.2%}", values=values))
    absent = len(report.classes) - len(rows)
    said = ["IoU, %."]
    if report.mean_over is not None:
        said.append("The means leave out the classes in parentheses.")
    if absent:
        said.append(f"{absent} classes are neither labelled nor predicted.")
    html.table(["class", "of the pixels", *variants, *gain], rows, note=" ".join(said))
    html.table(
        ["all together", *variants, *gain],
        [
            row(what, values=[getattr(v.scores, key) for v in variants.values()])
            for key, what in MEASURES.items()
        ],
        note="%. The means count classes that are nowhere as 0, as VOC does; those of the classes "
        "present leave out what is not labelled.",
    )


def _trimaps(html: viz.HTMLReport, report: Report) -> None:
    around = {"void": "the void outlines", "boundary": "changes of the label"}
    curves = {
        name: [scores.mean_iou for scores in variant.trimaps]
        for name, variant in report.variants.items()
    }
    html.section("Close to the outlines")
    html.figure(
        viz.draw_trimap_curve(curves),
        "Lines: the mean IoU of the pixels close to an outline, by the width of the band.",
        note="Mean IoU of the pixels in a band of w pixels around "
        f"{around[report.about['trimap around']]} (Figure 10 of the paper).",
    )
    most = len(next(iter(curves.values())))
    shown = [w for w in _WIDTHS if w <= most]
    html.table(
        ["w, pixels", *map(str, shown)],
        [[name, *(percent(curve[w - 1]) for w in shown)] for name, curve in curves.items()],
        note="Mean IoU, %.",
    )


def _confusion(html: viz.HTMLReport, report: Report) -> None:
    *_, (name, last) = report.variants.items()
    html.section("What was taken for what")
    html.figure(
        viz.draw_confusion_matrix(last.matrix.numpy(), report.classes),
        "Confusion matrix: labelled classes down, predicted ones across.",
        note=f"Confusion matrix of “{name}”; classes that occur nowhere are left out.",
    )
    matrix = last.matrix.numpy()
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:8]
    pairs = [divmod(int(place), len(matrix)) for place in order if wrong.flat[place]]
    total = max(1, int(matrix.sum()))
    if pairs:
        html.table(
            ["most frequent mistakes", "pixels", "of all"],
            [
                [
                    f"{report.classes[a]} taken for {report.classes[b]}",
                    f"{wrong[a, b]:,}",
                    f"{wrong[a, b] / total:.2%}",
                ]
                for a, b in pairs
            ],
        )


def _examples(html: viz.HTMLReport, report: Report, pictures: Pictures) -> None:
    if not report.examples:
        return
    html.section("Images to look at")
    html.text("Mean IoU of an image is over the classes that it is labelled with; void is white.")
    missing = []
    for one in report.examples:
        shots, colours = pictures.get(one.image, ((), ()))
        if not shots:
            missing.append([one.image, one.why, *map(percent, one.mean_iou.values())])
            continue
        captioned = [
            shot._replace(caption=f"{shot.caption}: {percent(one.mean_iou[shot.caption])} %")
            if shot.caption in one.mean_iou
            else shot
            for shot in shots
        ]
        html.gallery(one.image, captioned, note=one.why, colours=colours)
    if missing:
        html.table(["image", "", *report.variants], missing, note="No pictures are at hand.")


def _parameters(html: viz.HTMLReport, report: Report) -> None:
    about = dict(report.about)
    crf = about.pop("crf")
    for name in ("classes", "left out", "label map"):
        about.pop(name)
    html.section("Parameters")
    facts = {name: value for name, value in about.items() if value is not None}
    if report.mean_over is not None:
        facts["means over"] = [report.classes[i] for i in report.mean_over]
    html.facts(facts)
    if crf is None:
        html.facts({"CRF": "none"})
        return
    html.code(paste(crf["params"]), "CRF:")
    html.facts({name: value for name, value in crf.items() if name not in _OF_THE_CRF})


def _pair(report: Report) -> bool:
    """Whether the last column is what the CRF makes of the one before."""
    names = list(report.variants)
    return len(names) > 1 and names[-1] == names[-2] + AFTER


def _points(difference: float) -> str:
    return "-" if math.isnan(difference) else f"{100 * difference:+.2f}"
