"""Figures of docs/explanation/lattice.md."""

from __future__ import annotations

import numpy as np
import torch
from _drawing import BLUE, GREY, RED, Drawing, percent, row_of_pictures, scene
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from deeplab_native import CRFParams, gauss_transform, permutohedral_filter
from deeplab_native.ops.pairwise_features import image_features
from python_tests.ops.reference_crf import Lattice

_STEP = 2  # of the photograph: 150 x 128 pixels, of which all pairs are summed
_PARAMS = CRFParams.preset("voc-resnet101")


def steps() -> Drawing:
    """Splat, blur and slice of one point among 40 in the plane, with the lattice's own vertices."""
    random = np.random.default_rng(3)
    points = random.normal((2.2, 1.8), (1.15, 0.8), (40, 2)).astype(np.float32)
    chosen = int(np.argmin(((points - points.mean(0)) ** 2).sum(1)))
    values = np.zeros((len(points), 1))
    values[chosen] = 1
    lattice = Lattice(points)
    where = _plane(lattice)
    splat = np.zeros((len(lattice.index), 1))
    splat[lattice.vertices[chosen], 0] = lattice.weights[chosen]
    blurred = splat
    for axis in range(3):
        blurred = lattice.blur(blurred, axis)
    out = permutohedral_filter(torch.from_numpy(values).float(), torch.from_numpy(points))
    out = out[:, 0].numpy()
    same = np.allclose(lattice.filter(values)[:, 0], out, atol=1e-5)
    exact = np.exp(-((points - points[chosen]) ** 2).sum(1) / 2)
    missing = _missing(lattice)

    def draw() -> Figure:
        figure = Figure(figsize=(10, 3.5), layout="constrained")
        axes = figure.subplots(1, 3)
        for one, rows, title in (
            (axes[0], splat, "Splat: to the corners of its triangle"),
            (axes[1], blurred, "Blur: along three directions"),
        ):
            _edges(one, lattice, where)
            one.scatter(*where.T, s=10, color="white", ec=GREY, zorder=3)
            one.scatter(*where.T, s=260 * rows[:, 0], color=RED, alpha=0.75, zorder=4)
            one.plot(*points.T, ".", color=BLUE, ms=4, zorder=5)
            one.plot(*points[chosen], "*", color="black", ms=9, zorder=6)
            one.set(title=title, aspect="equal")
            one.set_axis_off()
        distance = np.sqrt(((points - points[chosen]) ** 2).sum(1))
        r = np.linspace(0, distance.max(), 100)
        axes[2].plot(r, np.exp(-(r**2) / 2), color="black", lw=1, label="exp(-r²/2)")
        axes[2].plot(distance, out, "o", ms=4, color=BLUE, label="what the points get")
        axes[2].set(title="Slice: read at every point", xlabel="distance r", ylim=(0, None))
        axes[2].legend(frameon=False)
        return figure

    numbers = {
        "points": len(points),
        "vertices": len(lattice.index),
        "missing neighbours": missing,
        "as the op": same,
        "mass against the exact": float(out.sum() / exact.sum()),
        "weights": lattice.weights[chosen].tolist(),
    }
    said = f"{len(lattice.index)} vertices", f"{percent(missing)} of the neighbours"
    return Drawing(draw, numbers, said)


def _plane(lattice: Lattice) -> np.ndarray:
    """(M, 2): where the vertices lie among the features, as the inverse of the elevation says."""
    deviation = np.sqrt(2 / 3) * 3
    s = np.array([1 / np.sqrt(2), 1 / np.sqrt(6)]) * deviation
    elevation = np.array([[s[0], s[1]], [-s[0], s[1]], [0, -2 * s[1]]])
    keys = np.array(list(lattice.index))
    return keys @ np.linalg.pinv(elevation).T


def _links(lattice: Lattice) -> list[tuple[int, int]]:
    """Pairs of vertices that are neighbours; (v, -1) where the neighbour does not exist."""
    links = []
    for key, v in lattice.index.items():
        for axis in range(lattice.d + 1):
            for sign in (-1, 1):
                step = [sign * (lattice.d if j == axis else -1) for j in range(lattice.d + 1)]
                neighbour = tuple(k + s for k, s in zip(key, step, strict=True))
                links.append((v, lattice.index.get(neighbour, -1)))
    return links


def _missing(lattice: Lattice) -> float:
    return float(np.mean([other < 0 for _, other in _links(lattice)]))


def _edges(axes: Axes, lattice: Lattice, where: np.ndarray) -> None:
    lines = [where[[v, other]] for v, other in _links(lattice) if other > v]
    axes.add_collection(LineCollection(lines, colors="#d5d8dc", linewidths=0.8, zorder=1))


def kernel() -> Drawing:
    """The filter of one point in the plane, where points are dense: averaged, and its spread."""
    random = torch.Generator().manual_seed(0)
    # a grid fine enough that no vertex is missing, with a hundred places for the impulse
    at = torch.arange(-6, 6, 0.25)
    grid = torch.cartesian_prod(at, at)
    responses, distances = [], []
    for _ in range(100):
        features = grid + torch.rand(2, generator=random)
        middle = int((grid**2).sum(1).argmin())
        values = torch.zeros(len(grid), 1)
        values[middle] = 1
        responses.append(permutohedral_filter(values, features)[:, 0])
        distances.append((features - features[middle]).norm(dim=1))
    r, y = torch.cat(distances), torch.cat(responses)
    bins = torch.arange(0, 3.75, 0.25)
    which = torch.bucketize(r, bins) - 1
    rows = [y[which == b] for b in range(len(bins) - 1)]
    mean = [row.mean().item() for row in rows]
    spread = [row.std().item() for row in rows]
    middle_of_bins = [r[which == b].mean().item() for b in range(len(bins) - 1)]
    largest = max(spread)

    def draw() -> Figure:
        figure = Figure(figsize=(5.5, 2.9), layout="constrained")
        axes = figure.subplots()
        x = np.linspace(0, 3.6, 100)
        axes.plot(x, np.exp(-(x**2) / 2), color="black", lw=1, label="exp(-r²/2)")
        axes.errorbar(
            middle_of_bins, mean, spread, fmt="o", ms=4, color=BLUE, capsize=2,
            label="lattice, by where the point lies in its triangle",
        )  # fmt: skip
        axes.set(xlabel="distance r", ylim=(0, None))
        axes.legend(frameon=False)
        return figure

    return Drawing(draw, {"mean": mean, "spread": spread, "largest spread": largest})


def filters() -> Drawing:
    """The network's belief, filtered by positions and colours: all pairs, and both lattices."""
    view = scene()
    image = view.image[..., ::_STEP, ::_STEP].contiguous()
    height, width = image.shape[-2:]
    # pixels are twice as far apart here
    features = image_features(image, _PARAMS.sigma_alpha / _STEP, _PARAMS.sigma_beta)[0]
    belief = (-view.unary).softmax(1)[0, view.person, ::_STEP, ::_STEP]
    values = torch.stack([belief.flatten(), torch.ones(height * width)], 1)
    sums = {
        "all pairs": gauss_transform(values, features),
        "lattice": permutohedral_filter(values, features),
        "bridged lattice": permutohedral_filter(values, features, lattice="bridged"),
    }
    means = {name: (s[:, 0] / s[:, 1]).view(height, width) for name, s in sums.items()}
    exact = means.pop("all pairs")
    errors = {name: (m - exact).abs() for name, m in means.items()}
    mass = {n: (sums[n][:, 1] / sums["all pairs"][:, 1]).median().item() for n in means}

    def draw() -> Figure:
        pictures = {
            "the network's belief": belief.numpy(),
            "averaged over all pairs": exact.numpy(),
            **{f"10 x |error|, {name}": 10 * e.numpy() for name, e in errors.items()},
        }
        return row_of_pictures(pictures, cmap="magma", vmin=0, vmax=1)

    numbers = {
        "mean error": {name: e.mean().item() for name, e in errors.items()},
        "largest error": {name: e.max().item() for name, e in errors.items()},
        "mass": mass,
    }
    said = [f"{e.mean().item():.4f}" for e in errors.values()]
    said += [percent(share) for share in mass.values()]
    return Drawing(draw, numbers, tuple(said))


FIGURES = {
    "lattice_steps.svg": steps,
    "lattice_kernel.svg": kernel,
    "lattice_filters.png": filters,
}
