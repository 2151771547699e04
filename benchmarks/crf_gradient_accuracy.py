"""The lattice's gradients beside those of the exact mean field, on crops of photos.

    python benchmarks/crf_gradient_accuracy.py FOLDER [--photos 3] [--json result.json]

FOLDER has images/NAME.jpg, labels/NAME.png (255: void) and scores/NAME.npy, a net's (L, H, W). The
loss is the cross entropy of the marginals after 5 iterations. The exact mean field is that of
algorithm="exact". Of a number both gradients are given; of the
image and the unary the cosine, and the ratio of the norms. See docs/crf_gradients.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.nn.functional import nll_loss

from _timing import machine_info, write_json
from deeplab_native import CRFParams, dense_crf

NAMES = ("w1", "sigma_alpha", "sigma_beta", "w2", "sigma_gamma")
SETTINGS = {
    "67/3, 1": (4.0, 67.0, 3.0, 3.0, 1.0),
    "80/13, 3": (4.0, 80.0, 13.0, 3.0, 3.0),
    "30/20, 3": (4.0, 30.0, 20.0, 3.0, 3.0),
    "10/40, 3": (4.0, 10.0, 40.0, 3.0, 3.0),
}
SIZE = (40, 48)
ITERATIONS = 5


def crop(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Energies (1, L, h, w), photo (1, 3, h, w), labels (1, h, w), where there are most edges."""
    image = np.asarray(Image.open(folder / "images" / f"{name}.jpg").convert("RGB"))
    labels = np.asarray(Image.open(folder / "labels" / f"{name}.png"))
    scores = np.load(folder / "scores" / f"{name}.npy").astype(np.float32)
    height, width = SIZE
    edges = np.zeros(labels.shape)
    edges[:, 1:] = labels[:, 1:] != labels[:, :-1]
    tops, lefts = (range(0, n - m + 1, 8) for n, m in zip(labels.shape, SIZE, strict=True))
    places = [(y, x) for y in tops for x in lefts]
    y, x = max(places, key=lambda p: edges[p[0] : p[0] + height, p[1] : p[1] + width].sum())
    inside = slice(y, y + height), slice(x, x + width)
    unary = -torch.from_numpy(scores[(slice(None), *inside)]).log_softmax(0)
    photo = torch.from_numpy(image[inside].copy()).permute(2, 0, 1).float()
    return unary[None], photo[None], torch.from_numpy(labels[inside].copy()).long()[None]


def gradients(algorithm: str, unary: torch.Tensor, image: torch.Tensor, labels, numbers):
    leaves = [t.clone().requires_grad_() for t in (unary, image, *map(torch.tensor, numbers))]
    params = CRFParams(*leaves[2:])
    q = dense_crf(*leaves[:2], params, iterations=ITERATIONS, algorithm=algorithm)
    loss = nll_loss(q.clamp_min(1e-12).log(), labels, ignore_index=255)
    return loss.detach(), torch.autograd.grad(loss, leaves)


def compare(unary: torch.Tensor, image: torch.Tensor, labels: torch.Tensor, numbers) -> dict:
    loss, own = gradients("lattice", unary, image, labels, numbers)
    exact_loss, exact = gradients("exact", unary, image, labels, numbers)
    row = {"loss": float(loss), "exact loss": float(exact_loss)}
    for name, a, e in zip(("unary", "image"), own[:2], exact[:2], strict=True):
        row[f"{name} cosine"] = float(torch.cosine_similarity(a.flatten(), e.flatten(), 0))
        row[f"{name} norms"] = float(a.norm() / e.norm())
    for name, a, e in zip(NAMES, own[2:], exact[2:], strict=True):
        row[name], row[f"exact {name}"] = float(a), float(e)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    names = sorted(path.stem for path in (args.folder / "scores").glob("*.npy"))[: args.photos]
    columns = ["unary cosine", "unary norms", "image cosine", "image norms", *NAMES]
    table = Table("setting", "photo", "loss (exact)", *columns)
    rows = []
    for setting, numbers in SETTINGS.items():
        for name in names:
            row = compare(*crop(args.folder, name), numbers)
            rows.append({"setting": setting, "photo": name, **row})
            texts = [f"{row[c]:.3f}" for c in columns[:4]]
            texts += [f"{row[n]:.2e} ({row[f'exact {n}']:.2e})" for n in NAMES]
            table.add_row(setting, name, f"{row['loss']:.3f} ({row['exact loss']:.3f})", *texts)
    Console(width=220).print(table)
    if args.json:
        write_json(args.json, {"machine": machine_info(), "size": SIZE, "rows": rows})


if __name__ == "__main__":
    main()
