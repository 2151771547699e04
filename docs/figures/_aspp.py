"""Figures of docs/explanation/aspp.md."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from _drawing import BLUE, GREEN, RED, Drawing, network, percent, row_of_pictures, scene
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from deeplab_native import aspp
from deeplab_native.weights import EMBEDDED_SIDE

RATES = (6, 12, 18, 24)  # ASPP-L of the paper
_COLOURS = (BLUE, GREEN, "#d08a1d", RED)
_SIZE = 41  # of the maps of a crop of 321 pixels


def _branch(x: torch.Tensor, rate: int) -> torch.Tensor:
    return aspp(x, [torch.ones(1, 1, 3, 3)], None, [rate])


@cache
def _inside(size: int, rate: int) -> float:
    """The share of a branch's products whose pixel lies on the map."""
    return _branch(torch.ones(1, 1, size, size), rate).double().mean().item() / 9


def taps() -> Drawing:
    """Where the taps of the branches lie, for an output in the middle and one at the border."""
    places = {"of an output in the middle": (20, 20), "of one near the border": (6, 9)}
    seen = {}
    for name, (i, j) in places.items():
        for rate in RATES:
            x = torch.zeros(1, 1, _SIZE, _SIZE, requires_grad=True)
            (gradient,) = torch.autograd.grad(_branch(x, rate)[0, 0, i, j], x)
            seen[name, rate] = gradient[0, 0].nonzero().tolist()

    def draw() -> Figure:
        figure = Figure(figsize=(8, 4), layout="constrained")
        for axes, (name, (i, j)) in zip(figure.subplots(1, 2), places.items(), strict=True):
            axes.add_patch(_square(_SIZE))
            for rate, colour in zip(RATES, _COLOURS, strict=True):
                offsets = [(a * rate, b * rate) for a in (-1, 0, 1) for b in (-1, 0, 1)]
                every = {(i + a, j + b) for a, b in offsets} - {(i, j)}
                on_map = {(a, b) for a, b in seen[name, rate]} - {(i, j)}
                for taps, filled in ((on_map, True), (every - on_map, False)):
                    if taps:
                        y, x = zip(*taps, strict=True)
                        face = colour if filled else "none"
                        axes.plot(x, y, "s", ms=6, mec=colour, mfc=face, ls="none")
                axes.plot([], [], "s", color=colour, label=f"rate {rate}")
            axes.plot(j, i, "s", ms=6, color="black", label="of all four")
            axes.set(title=f"Taps {name}", aspect="equal", xlim=(-19, 47), ylim=(47, -19))
            axes.set_axis_off()
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right", frameon=False)
        return figure

    counts = [[len(seen[name, rate]) for rate in RATES] for name in places]
    said = (f"{sum(counts[1])} of 36",)
    return Drawing(draw, {"taps on the map": counts}, said)


def _square(size: int) -> Rectangle:
    return Rectangle((-0.5, -0.5), size, size, fc="#f2f4f6", ec="#9aa0a6")


def outside() -> Drawing:
    """The share of the products that multiply zeros, by the size of the map."""
    sizes = list(range(17, 130, 8))
    shares = {rate: [1 - _inside(size, rate) for size in sizes] for rate in RATES}
    of_all = {
        size: 1 - sum(_inside(size, rate) for rate in RATES) / len(RATES) for size in (41, 65)
    }

    def draw() -> Figure:
        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        for rate, colour in zip(RATES, _COLOURS, strict=True):
            axes.plot(sizes, shares[rate], color=colour, marker=".", label=f"rate {rate}")
        for (size, share), y in zip(of_all.items(), (0.69, 0.6), strict=True):
            axes.axvline(size, color="#9aa0a6", lw=0.8, ls=":")
            axes.annotate(
                f"{size} x {size}: {percent(share)} of all", (size, y), (3, 0),
                textcoords="offset points", fontsize=8, va="center",
            )  # fmt: skip
        axes.set(xlabel="height and width of the map", ylabel="share outside of it", ylim=(0, 0.72))
        axes.legend(frameon=False)
        return figure

    numbers = {
        "sizes": sizes,
        "shares": {str(rate): values for rate, values in shares.items()},
        "of all": {str(size): share for size, share in of_all.items()},
    }
    at_24 = shares[24][sizes.index(41)]
    said = f"{percent(of_all[41])} at 41 x 41", f"{percent(of_all[65])} at 65 x 65", percent(at_24)
    return Drawing(draw, numbers, said)


def branches() -> Drawing:
    """The score of the person by every branch of the package's network, and their sum."""
    net, view = network(), scene()
    head = net.fc1
    kept = []
    hook = head.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
    side = torch.nn.functional.interpolate(
        view.image.float(), size=(EMBEDDED_SIDE, 273), mode="bilinear", antialias=True
    )
    with torch.no_grad():
        whole = net.eval()(net.preprocessing(side.round().to(torch.uint8)))
        hook.remove()
        parts = [branch(kept[0]) for branch in head.branches()]
    person = {
        f"rate {rate}": part[0, view.person] - part[0, 0]
        for rate, part in zip(head.rates, parts, strict=True)
    }
    total = whole[0, view.person] - whole[0, 0]
    apart = (sum(person.values()) - total).abs().max().item()
    numbers = {
        "rates": list(head.rates),
        "means": {name: score.mean().item() for name, score in person.items()},
        "sum is the score": apart < 1e-3,
        "share of person": (total > 0).float().mean().item(),
    }

    def draw() -> Figure:
        most = float(total.abs().max())
        pictures = {name: score.numpy() for name, score in person.items()}
        pictures["their sum"] = total.numpy()
        shown = {name: np.asarray(p) for name, p in pictures.items()}
        return row_of_pictures(shown, cmap="RdBu_r", vmin=-most / 2, vmax=most / 2)

    return Drawing(draw, numbers)


FIGURES = {"aspp_taps.svg": taps, "aspp_outside.svg": outside, "aspp_branches.png": branches}
