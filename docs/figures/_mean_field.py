"""Figures of docs/explanation/mean_field.md."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from _drawing import BLUE, RED, Drawing, cut_out, network, percent, row_of_pictures, scene
from matplotlib.figure import Figure

from deeplab_native import CRFParams, MeanField, dense_crf

_SHOWN = (0, 1, 2, 3, 5, 10)
_LAST = 20
# of each parameter, far below and far above what the network's file has
_EXTREMES = {
    "w1": (0.5, 30),
    "sigma_alpha": (8, 300),
    "sigma_beta": (1, 40),
    "w2": (0, 40),
    "sigma_gamma": (0.5, 15),
}
_PART = slice(90, 300), slice(0, 170)  # of the pictures: where most of it happens


def _params() -> CRFParams:
    """Those of the network, for a photograph of half the height and width."""
    found = network().crf
    assert found is not None
    return replace(found, sigma_alpha=found.sigma_alpha / 2, sigma_gamma=found.sigma_gamma / 2)


def iterations() -> Drawing:
    """The belief in the person after some iterations."""
    view = scene()
    field = MeanField.from_image(view.unary, view.image, _params())
    q = field.start()
    beliefs = {0: q[0, view.person].clone()}
    divergence, changed = [field.kl_divergence(q).item()], []
    for i in range(1, _LAST + 1):
        before, q = q.argmax(1), field.step(q)
        changed.append((q.argmax(1) != before).float().mean().item())
        divergence.append(field.kl_divergence(q).item())
        if i in _SHOWN:
            beliefs[i] = q[0, view.person].clone()

    def draw() -> Figure:
        titles = {0: "the network", 1: "1 iteration"}
        pictures = {titles.get(i, f"{i} iterations"): b.numpy() for i, b in beliefs.items()}
        return row_of_pictures(pictures, cmap="magma", vmin=0, vmax=1)

    numbers = {
        "person": {str(i): (b > 0.5).float().mean().item() for i, b in beliefs.items()},
        "unsure": {
            str(i): ((b > 0.1) & (b < 0.9)).float().mean().item() for i, b in beliefs.items()
        },
        "divergence": divergence,
        "changed": changed,
    }
    unsure = numbers["unsure"]
    said = f"{percent(unsure['0'])} of the pixels", percent(unsure["10"], 1)
    return Drawing(draw, numbers, said)


def convergence() -> Drawing:
    """KL(Q || P) up to its constant, and the labels that change, by iteration."""
    numbers = iterations().numbers
    divergence, changed = np.array(numbers["divergence"]), np.array(numbers["changed"])

    def draw() -> Figure:
        figure = Figure(figsize=(8, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        left.plot(divergence / 1000, ".-", color=BLUE)
        left.set(title="KL(Q || P) - log Z, thousands", xlabel="iteration", xticks=range(0, 21, 5))
        right.semilogy(range(1, _LAST + 1), np.maximum(changed, 1e-6), ".-", color=RED)
        right.set(title="share of labels that change", xlabel="iteration", xticks=range(0, 21, 5))
        return figure

    said = percent(changed[0], 1), percent(changed[9], 2)
    return Drawing(draw, {"divergence": numbers["divergence"], "changed": numbers["changed"]}, said)


def parameters() -> Drawing:
    """What the refined person is with each parameter far too small, right, and far too large."""
    view, params = scene(), _params()
    rows = {}
    for name, extremes in _EXTREMES.items():
        own = getattr(params, name)
        for value in (extremes[0], own, extremes[1]):
            q = dense_crf(view.unary, view.image, replace(params, **{name: value}))
            rows[name, value] = (q.argmax(1)[0] == view.person).numpy()

    def draw() -> Figure:
        figure = Figure(figsize=(9, 7.2), layout="constrained")
        axes = figure.subplots(3, len(_EXTREMES))
        for i, ((name, value), mask) in enumerate(rows.items()):
            one = axes[i % 3, i // 3]
            one.imshow(cut_out(view.photo[_PART], mask[_PART]))
            one.set_title(f"{name} = {value:g}", fontweight="bold" if i % 3 == 1 else "normal")
            one.set_axis_off()
        return figure

    shares = {f"{name}={value:g}": float(mask.mean()) for (name, value), mask in rows.items()}
    return Drawing(draw, {"person": shares})


FIGURES = {
    "mean_field_iterations.png": iterations,
    "mean_field_convergence.svg": convergence,
    "mean_field_parameters.png": parameters,
}
