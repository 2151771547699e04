"""Figures of docs/explanation/atrous_convolution.md."""

from __future__ import annotations

import numpy as np
import torch
from _drawing import BLUE, GREY, RED, Drawing, row_of_pictures, scene
from matplotlib.figure import Figure

from deeplab_native import atrous_conv1d, atrous_conv2d, batch_to_space, space_to_batch

_LENGTH = 17
_STRIDE = 4  # of the sparse features
_CROP = slice(40, 168), slice(64, 192)  # of the photograph: the face


def taps_1d() -> Drawing:
    """Which inputs an output sees, as the gradient says: after a stride of 2, and at rate 2."""
    x = torch.zeros(1, 1, _LENGTH)
    ones = torch.ones(1, 1, 3)

    def strided(x: torch.Tensor) -> torch.Tensor:
        return atrous_conv1d(x[..., ::2], ones, padding=1)

    def atrous(x: torch.Tensor) -> torch.Tensor:
        return atrous_conv1d(x, ones, padding=2, rate=2)

    seen = {}
    for name, function, step in (
        ("Stride 2, then a filter of three taps", strided, 2),
        ("No stride, the taps of the filter 2 apart", atrous, 1),
    ):
        jacobian = torch.autograd.functional.jacobian(function, x)
        matrix = jacobian.reshape(-1, _LENGTH) != 0  # (outputs, inputs)
        seen[name] = {i * step: row.nonzero()[:, 0].tolist() for i, row in enumerate(matrix)}

    def draw() -> Figure:
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        for axes, (title, outputs) in zip(figure.subplots(2, 1), seen.items(), strict=True):
            used = {i for taps in outputs.values() for i in taps}
            for place, taps in outputs.items():
                middle = place == _LENGTH // 2
                for tap in taps:
                    how = {"color": RED, "lw": 2, "zorder": 2} if middle else {"color": "#d5d8dc"}
                    axes.plot([tap, place], [0, 1], **how)
            for i in range(_LENGTH):
                axes.plot(i, 0, "o", color=BLUE if i in used else "white", mec=GREY, ms=9)
            for place in outputs:
                middle = place == _LENGTH // 2
                axes.plot(place, 1, "s", color=RED if middle else BLUE, ms=9)
            axes.set(title=f"{title}: {len(outputs)} outputs", yticks=[0, 1], xticks=[])
            axes.set_yticklabels(["input", "output"])
            for spine in axes.spines.values():
                spine.set_visible(False)
        return figure

    counts = [len(outputs) for outputs in seen.values()]
    middle = [outputs[_LENGTH // 2] for outputs in seen.values()]
    numbers = {"outputs": counts, "inputs of the middle output": middle}
    return Drawing(draw, numbers, (f"{counts[0]} outputs", f"{counts[1]} outputs"))


def field_of_view() -> Drawing:
    """The taps of a 3 x 3 filter at three rates, as the gradient says."""
    size, rates = 13, (1, 2, 4)
    seen = []
    for rate in rates:
        x = torch.zeros(1, 1, size, size, requires_grad=True)
        y = atrous_conv2d(x, torch.ones(1, 1, 3, 3), padding=rate, rate=rate)
        (gradient,) = torch.autograd.grad(y[0, 0, size // 2, size // 2], x)
        seen.append(gradient[0, 0].numpy())
    fields = [int(np.ptp(np.nonzero(g)[0])) + 1 for g in seen]

    def draw() -> Figure:
        figure = Figure(figsize=(7, 2.7), layout="constrained")
        for axes, rate, gradient, wide in zip(
            figure.subplots(1, len(rates)), rates, seen, fields, strict=True
        ):
            axes.pcolormesh(gradient, cmap="Blues", vmin=0, vmax=1.4, ec="#d5d8dc", lw=0.5)
            low = (size - wide) / 2
            axes.plot(
                [low, low + wide, low + wide, low, low], [low, low, low + wide, low + wide, low],
                color=RED, lw=2,
            )  # fmt: skip
            axes.set(title=f"rate {rate}: 9 weights, {wide} x {wide} pixels", aspect="equal")
            axes.set_axis_off()
        return figure

    weights = [int(np.count_nonzero(g)) for g in seen]
    return Drawing(draw, {"rates": list(rates), "fields": fields, "weights": weights})


def sparse_and_dense() -> Drawing:
    """A vertical derivative of the photograph: of every fourth pixel, and at rate 4 of all."""
    grey = torch.from_numpy(scene().photo[_CROP].mean(2)).float()[None, None] / 255
    at = torch.arange(-3.0, 4)
    bell = torch.exp(-(at**2) / 8)
    weight = (-at * bell)[:, None] * bell[None]
    weight = (weight / weight.abs().sum())[None, None]
    sparse = atrous_conv2d(grey[..., ::_STRIDE, ::_STRIDE].contiguous(), weight, padding=3)
    dense = atrous_conv2d(grey, weight, padding=3 * _STRIDE, rate=_STRIDE)
    apart = (dense[..., ::_STRIDE, ::_STRIDE] - sparse).abs().max().item()
    enlarged = sparse[0, 0].repeat_interleave(_STRIDE, 0).repeat_interleave(_STRIDE, 1)

    def draw() -> Figure:
        pictures = {
            "Photograph": scene().photo[_CROP],
            "Every fourth pixel, then the filter": enlarged.numpy(),
            "The filter at rate 4": dense[0, 0].numpy(),
        }
        most = dense.abs().max().item()
        return row_of_pictures(pictures, cmap="RdBu_r", vmin=-most, vmax=most)

    numbers = {
        "responses": [sparse.numel(), dense.numel()],
        "same where both are": apart < 1e-6,
        "mean": dense.abs().mean().item(),
    }
    said = f"{sparse.numel():,} responses", f"{dense.numel():,}"
    return Drawing(draw, numbers, said)


def maps() -> Drawing:
    """The photograph dealt out to rate x rate maps, and the convolution by way of them."""
    rate = 2
    x = torch.from_numpy(scene().photo[_CROP]).permute(2, 0, 1)[None].float() / 255
    dealt = space_to_batch(x, rate)
    weight = torch.randn(1, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    straight = atrous_conv2d(x, weight, padding=rate, rate=rate)
    through = atrous_conv2d(x, weight, padding=rate, rate=rate, algorithm="space_to_batch")
    numbers = {
        "maps": list(dealt.shape),
        "there and back": bool((batch_to_space(dealt, rate, x.shape[-2:]) == x).all()),
        "same convolution": torch.allclose(straight, through, atol=1e-5),
    }

    def draw() -> Figure:
        figure = Figure(figsize=(6, 3.2), layout="constrained")
        left, right = figure.subfigures(1, 2)
        axes = left.subplots()
        axes.imshow(x[0].permute(1, 2, 0).numpy())
        axes.set(title="One map")
        axes.set_axis_off()
        for i, axes in enumerate(right.subplots(rate, rate).flat):
            axes.imshow(dealt[i].permute(1, 2, 0).numpy())
            axes.set_axis_off()
        right.suptitle("four maps, for rate 2", fontsize=9)
        return figure

    return Drawing(draw, numbers)


FIGURES = {
    "atrous_taps.svg": taps_1d,
    "field_of_view.svg": field_of_view,
    "sparse_and_dense.png": sparse_and_dense,
    "space_to_batch.png": maps,
}
