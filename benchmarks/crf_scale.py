"""What does `dense_crf(..., scale=)` cost in quality, and what does it save in time?

VOC 2012 val images with real score maps, enlarged (the data folder's README.md says where they are
from; they are not part of this repository):

    python benchmarks/crf_scale.py DATA_FOLDER --images 10 --enlarge 2 --json result.json

For each scale: the share of pixels whose label is that of the CRF at full resolution; the same for
that CRF on the shrunk image, its marginals enlarged bilinearly; the time of the whole call.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from _timing import machine_info, write_json
from crf_on_voc_scores import load
from deeplab_native import CRFParams, dense_crf


def enlarged(folder: Path, name: str, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Unary (1, 21, H, W) and image (1, 3, H, W) uint8, bicubic."""
    logits, image, _ = load(folder, name)
    if factor != 1:
        size = [round(n * factor) for n in image.shape[2:]]
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=True)
        image = functional.interpolate(image.float(), size=size, mode="bicubic")
        image = image.clamp(0, 255).round().to(torch.uint8)
    return -logits.log_softmax(1), image


def shrunk_and_enlarged(unary, image, params: CRFParams, scale: float) -> torch.Tensor:
    """The obvious way: everything smaller, sigmas in pixels too, and Q enlarged."""
    size = [max(1, round(n * scale)) for n in image.shape[2:]]
    small = functional.interpolate(image.float(), size=size, mode="area")
    own = CRFParams(
        params.w1,
        params.sigma_alpha * scale,
        params.sigma_beta,
        params.w2,
        params.sigma_gamma * scale,
    )
    q = dense_crf(functional.interpolate(unary, size=size, mode="area"), small, own)
    return functional.interpolate(q, size=image.shape[2:], mode="bilinear", align_corners=False)


def timed(function) -> tuple[torch.Tensor, float]:
    start = perf_counter()
    q = function()
    return q.argmax(1), perf_counter() - start


def compare(unary, image, params: CRFParams, scales: list[float]) -> dict[str, dict[str, float]]:
    full, seconds = timed(lambda: dense_crf(unary, image, params))

    def agreement(labels: torch.Tensor) -> float:
        return (labels == full).double().mean().item() * 100

    rows = {"no CRF": {"joint": agreement(unary.argmin(1)), "seconds": 0.0}}
    rows["1"] = {"joint": 100.0, "seconds": seconds}
    for scale in scales:
        labels, seconds = timed(lambda s=scale: dense_crf(unary, image, params, scale=s))
        plain = shrunk_and_enlarged(unary, image, params, scale).argmax(1)
        rows[f"{scale:g}"] = {
            "joint": agreement(labels),
            "bilinear": agreement(plain),
            "seconds": seconds,
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the data, with ids.txt")
    parser.add_argument("--images", type=int, default=10, help="spread over the list")
    parser.add_argument("--enlarge", type=float, default=2.0)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.5, 0.25])
    parser.add_argument("--sigmas", type=float, nargs=2, default=[67, 3], help="alpha and beta")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    parser.add_argument("--json", type=Path, help="also write the result there")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    names = (arguments.folder / "ids.txt").read_text().split()
    names = names[:: max(1, len(names) // arguments.images)][: arguments.images]
    params = CRFParams(4, *arguments.sigmas, 3, 3)

    results = [
        compare(*enlarged(arguments.folder, name, arguments.enlarge), params, arguments.scales)
        for name in names
    ]

    figures = {
        row: {
            key: (median if key == "seconds" else mean)(result[row][key] for result in results)
            for key in results[0][row]
        }
        for row in results[0]
    }
    table = Table("scale", "labels as at 1", "bilinear instead", "seconds", "times as fast")
    for row, values in figures.items():
        seconds = values["seconds"]
        table.add_row(
            row,
            f"{values['joint']:.2f} %",
            f"{values['bilinear']:.2f} %" if "bilinear" in values else "",
            f"{seconds:.3f}" if seconds else "",
            f"{figures['1']['seconds'] / seconds:.2f}" if seconds else "",
        )
    machine = machine_info()
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{len(names)} images: mean shares, median seconds; "
        f"{machine['threads']} threads, {machine['isa']}"
    )
    if arguments.json:
        settings = {k: v for k, v in vars(arguments).items() if k not in ("folder", "json")}
        write_json(arguments.json, {"machine": machine, **settings, "figures": figures})


if __name__ == "__main__":
    main()
