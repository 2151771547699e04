"""Figures: what is drawn of which numbers, and what cannot be drawn."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from deeplab_native import viz

NAN = float("nan")
NO_LABELS = {"x_label": "", "y_label": "", "value_label": ""}
CLASSES = ["background", "ca$t", "do$g", "<script>"]
IOUS = {"scores": [0.9, 0.5, NAN, 0.25], "scores + CRF": [0.95, 0.6, NAN, NAN]}


def names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def legend_of(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_importing_costs_numpy_alone():
    """And pyplot, with its list of all figures, is not imported for a figure either."""
    code = (
        "import sys; from deeplab_native import viz\n"
        "assert not {'matplotlib', 'PIL', 'torch', 'jinja2'} & set(sys.modules)\n"
        "viz.to_svg(viz.draw_trimap_curve({'a': [0.5, 0.6]}))\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False False\n"


def test_class_iou():
    figure = viz.draw_class_iou(IOUS, CLASSES, means={"scores": 0.4125}, title="a $x$")
    (axes,) = figure.axes
    assert names(axes.yaxis) == ["background", "ca$t", "<script>"]  # do$g is nowhere
    assert legend_of(axes) == ["scores: mean 41.25 %", "scores + CRF"]
    assert [bar.get_width() for bar in axes.containers[0]] == [90, 50, 25]
    assert [bar.get_width() for bar in axes.containers[1]] == pytest.approx([95, 60, 0])
    whole = viz.draw_class_iou(IOUS, CLASSES, only_present=False).axes[0]
    assert names(whole.yaxis) == CLASSES
    for one in (figure, viz.draw_class_iou({"none": [NAN, NAN]}, ["a", "b"])):
        assert viz.to_png(one).startswith(b"\x89PNG")  # dollar signs are no formulas


def test_evaluation_has_both():
    curves = {"scores": [0.1, 0.2, 0.3], "scores + CRF": [0.2, 0.4, NAN]}
    bars, lines = viz.draw_evaluation(IOUS, CLASSES, curves).axes
    assert len(bars.containers) == 2
    assert lines.lines[1].get_xdata().tolist() == [1, 2, 3]
    assert lines.lines[1].get_ydata()[:2].tolist() == pytest.approx([20, 40])
    assert lines.get_xlabel() == "trimap width w, pixels"
    assert len(viz.draw_evaluation(IOUS, CLASSES).axes) == 1
    (alone,) = viz.draw_trimap_curve(curves, widths=[2, 4, 8], measure="pixel accuracy").axes
    assert alone.lines[0].get_xdata().tolist() == [2, 4, 8]
    assert alone.get_ylabel() == "pixel accuracy, %"


def test_confusion_matrix():
    counts = np.array([[8, 2, 0, 0], [0, 0, 0, 5], [0, 0, 0, 0], [0, 0, 0, 0]])
    axes, bar = viz.draw_confusion_matrix(counts, CLASSES).axes
    assert names(axes.yaxis) == names(axes.xaxis) == ["background", "ca$t", "<script>"]
    shares = axes.images[0].get_array()
    assert shares[:2].tolist() == [[80, 20, 0], [0, 0, 100]]
    assert np.isnan(np.ma.filled(shares[2], NAN)).all()  # nothing is labelled so
    assert [text.get_text() for text in axes.texts] == ["80.0", "20.0", "0.0", "0.0", "0.0", "100"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("labelled", "predicted")
    assert "%" in bar.get_ylabel()
    many = np.eye(70, dtype=int)  # neither numbers nor names would be legible
    axes = viz.draw_confusion_matrix(many, [str(i) for i in range(70)]).axes[0]
    assert len(axes.texts) == 0 and len(axes.get_yticks()) < 20


def test_curves():
    x = np.arange(300)
    (axes,) = viz.draw_curves(
        {"loss": (x, 2.0 * x + 1)}, x_label="iteration", y_label="loss", smooth=True, log=True
    ).axes
    faint, mean = axes.lines
    assert len(faint.get_xdata()) == 300
    # of a straight line the running mean is the line
    assert np.allclose(mean.get_ydata(), 2 * mean.get_xdata() + 1)
    assert axes.get_yscale() == "log" and axes.get_xlabel() == "iteration"


def test_bench_chart():
    spread = viz.Spread(3.0, 2.0, 5.0)
    cases = {"one": {"ours": spread, "theirs": 9.0}, "two": {"ours": 1.5}}
    (axes,) = viz.draw_bench_chart(cases).axes
    assert [bar.get_width() for bar in axes.patches] == [3, 9, 1.5]
    assert list(axes.lines[0].get_xdata()) == [2, 5]
    assert names(axes.yaxis) == ["one", "two"] and legend_of(axes) == ["ours", "theirs"]
    assert axes.get_xlabel() == "ms" and axes.get_xlim()[0] == 0
    (far,) = viz.draw_bench_chart({"one": {"ours": 1.0, "theirs": 31.0}}, unit="s").axes
    assert far.get_xscale() == "log" and not far.patches


def test_heat_maps():
    panels = {"w1 = 3": [[1.0, 2, 3], [4, 5, 6]], "w1 = 4": [[0.0, 0, 0], [0, 9, 0]]}
    figure = viz.draw_heat_maps(
        panels, [30, 40, 50], [3, 4], x_label="sigma_alpha", y_label="sigma_beta",
        value_label="mean IoU, %", framed=("w1 = 4", 1, 1),
    )  # fmt: skip
    first, second, bar = figure.axes
    assert [first.get_title(), second.get_title()] == list(panels)
    assert names(first.xaxis) == ["30", "40", "50"] and names(first.yaxis) == ["3", "4"]
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0, 9)
    assert [text.get_text() for text in first.texts] == [f"{v}.00" for v in range(1, 7)]
    assert not first.patches
    assert second.patches[-1].get_xy() == (0.5, 0.5)
    assert bar.get_ylabel() == "mean IoU, %"


def test_belief_maps_alone():
    beliefs = np.random.default_rng(0).random((3, 8, 12))
    figure = viz.draw_belief_maps(beliefs, iterations=[0, 1, 5], name="a $cat$")
    maps = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert [axes.get_title() for axes in maps] == ["Input", "Iteration 1", "Iteration 5"]
    assert [np.array_equal(a.images[0].get_array(), b) for a, b in zip(maps, beliefs, strict=True)]
    assert maps[0].get_ylabel() == "belief in a $cat$\n(after softmax)"
    photo = np.zeros((8, 12, 3), np.uint8)
    with_photo = viz.draw_belief_maps(beliefs, photo=photo, titles=["only"])
    assert with_photo.axes[0].get_title() == "only" and len(viz.to_png(with_photo)) > 1000


def test_heat():
    pixels = viz.heat(np.array([[0.0, 1.0], [2.0, NAN]]), colours="gray")
    assert pixels.dtype == np.uint8 and pixels.tolist() == [
        [[0] * 3, [255] * 3],
        [[255] * 3, [0] * 3],
    ]
    assert viz.heat(np.array([[-5.0]]), low=-10, high=0, colours="gray")[0, 0, 0] in (127, 128)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: viz.draw_class_iou({"a": [1]}, ["x", "y"]), "ious: expected 2 values of 'a'"),
        (lambda: viz.draw_class_iou({}, ["x"]), "ious: expected at least one"),
        (lambda: viz.draw_trimap_curve({"a": [1], "b": [1, 2]}), "curves: expected 1 values"),
        (lambda: viz.draw_confusion_matrix(np.ones((2, 3)), ["a", "b"]), r"counts: .*\(2, 2\)"),
        (lambda: viz.draw_confusion_matrix(-np.ones((1, 1)), ["a"]), "counts: expected numbers"),
        (lambda: viz.draw_curves({}, x_label="", y_label=""), "curves: expected at least one"),
        (
            lambda: viz.draw_curves({"a": ([1], [1, 2])}, x_label="", y_label=""),
            "curves: expected as many places as values of 'a'",
        ),
        (lambda: viz.draw_bench_chart({"a": {}}), "cases: expected at least one"),
        (lambda: viz.draw_bench_chart({"a": {"b": 0.0}}), "cases: expected positive numbers"),
        (
            lambda: viz.draw_heat_maps({"p": [[1]]}, [1, 2], [1], **NO_LABELS),
            r"panels: expected \(1, 2\) values of 'p', got \(1, 1\)",
        ),
        (
            lambda: viz.draw_heat_maps({"p": [[1]]}, [1], [1], **NO_LABELS, framed=("q", 0, 0)),
            "framed: expected",
        ),
        (lambda: viz.draw_belief_maps([]), r"beliefs: expected \(N, H, W\)"),
        (lambda: viz.draw_belief_maps([np.ones((2, 2)), np.ones((3, 2))]), "beliefs: .* one size"),
        (lambda: viz.draw_belief_maps(np.ones((2, 4, 4)), iterations=[1]), "iterations: exp"),
        (
            lambda: viz.draw_belief_maps(np.ones((1, 4, 4)), photo=np.ones((4, 5, 3), np.uint8)),
            "photo: expected",
        ),
        (lambda: viz.draw_belief_maps(np.ones((1, 4, 4)), masks=(np.ones((4, 4)),) * 2), "masks"),
        (lambda: viz.heat(np.ones(3)), r"values: expected \(H, W\)"),
        (lambda: viz.heat(np.ones((3, 3)), low=1), "low < high"),
        (lambda: viz.heat(np.ones((3, 3)), colours="nope"), "colours 'nope'"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn(draw, words):
    with pytest.raises(ValueError, match=words):
        draw()


def test_files_of_a_figure(tmp_path):
    """Letters that the font lacks are no warnings: a name may be of any script."""
    figure = viz.draw_class_iou({"a": [0.5]}, ["猫"])
    viz.save_figure(tmp_path / "f.png", figure)
    with (
        Image.open(tmp_path / "f.png") as image,
        Image.open(io.BytesIO(viz.to_png(figure))) as same,
    ):
        assert image.size == same.size
    svg, again = (viz.to_svg(viz.draw_class_iou({"a": [0.5]}, ["猫"])) for _ in range(2))
    assert "猫" in svg.decode() and svg == again
    with pytest.raises(ValueError, match="nope"):
        viz.save_figure(tmp_path / "f.nope", figure)
    assert os.listdir(tmp_path) == ["f.png"]


def test_figures_of_several_threads():
    """matplotlib's parameters, of which a process has one set, are as before."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    alone = viz.to_svg(viz.draw_trimap_curve({"a": [0.5, 0.6]}))
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(viz.to_svg(viz.draw_trimap_curve({"a": [0.5, 0.6]})))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 4
    assert dict(matplotlib.rcParams) == before
