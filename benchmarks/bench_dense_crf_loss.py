"""Times a training step's dense CRF loss, forward and backward, beside rloss's way of doing it.

    python benchmarks/bench_dense_crf_loss.py --threads 1 2
    python benchmarks/bench_dense_crf_loss.py --device cuda
    python benchmarks/bench_dense_crf_loss.py --peer libbilateralfilter.so

rloss (Tang et al. 2018, the authors' PyTorch code) filters on the CPU, each label and image alone,
one thread for an image, after copies from the device and back; its gradient is what the forward
pass filtered, without the lattice's transpose. --peer is a library made of its two C++ files and of
`extern "C" void bilateralfilter_c(float *images, float *in, float *out, int N, int K, int H, int W,
float sigma_rgb, float sigma_xy)`, which calls their `bilateralfilter_batch`. Without it "like
rloss" is the same way with this package's filter in the place of theirs. "neither" is
a step without a filter: softmax and interpolation, there and back, which both have. Runs alternate.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from _outputs import add_outputs
from _timing import machine_info, time_paired, write_results
from deeplab_native import DenseCRFLoss, permutohedral_filter
from deeplab_native.demo.photo import photograph
from deeplab_native.ops.pairwise_features import image_features

CASES = ["375x500x1", "375x500x4", "513x513x4", "513x513x12"]
SIGMA_RGB, SIGMA_XY, SCALE, LABELS = 15.0, 100.0, 0.5, 21

# of images (B, 3, H, W) and values (B, L, H, W), both float32 on the CPU, and sigma_xy
Filter = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def filter_of_ours(image: torch.Tensor, values: torch.Tensor, sigma_xy: float) -> torch.Tensor:
    features = image_features(image, sigma_xy, SIGMA_RGB)
    out = torch.empty_like(values)
    for own, planes, result in zip(features, values.flatten(2), out.flatten(2), strict=True):
        result.copy_(permutohedral_filter(planes.T.contiguous(), own).T)
    return out


def of_library(path: Path) -> Filter:
    function = ctypes.CDLL(str(path.resolve())).bilateralfilter_c

    def filter_(image: torch.Tensor, values: torch.Tensor, sigma_xy: float) -> torch.Tensor:
        out, image, values = torch.empty_like(values), image.contiguous(), values.contiguous()
        pointers = (ctypes.c_void_p(t.data_ptr()) for t in (image, values, out))
        sigmas = ctypes.c_float(SIGMA_RGB), ctypes.c_float(sigma_xy)
        function(*pointers, *map(int, values.shape), *sigmas)
        return out

    return filter_


class LikeRloss(torch.autograd.Function):
    """-S^T K S over the images, and -2 K S as its gradient, on the CPU."""

    @staticmethod
    def forward(ctx, image, values, filter_):
        inside = values.cpu()
        ctx.filtered = filter_(image.cpu(), inside, SIGMA_XY * SCALE)
        return -(inside * ctx.filtered).sum().to(values.device) / len(values)

    @staticmethod
    def backward(ctx, grad):
        gradient = -2 * grad.cpu() * ctx.filtered / len(ctx.filtered)
        return None, gradient.to(grad.device), None


def step_of(loss: Callable[..., torch.Tensor], image: torch.Tensor, scores: torch.Tensor):
    def step() -> torch.Tensor:
        scores.grad = None
        value = loss(image, scores.softmax(1))
        value.backward()
        return value.detach()

    return step


def bench(case: str, args: argparse.Namespace) -> dict:
    height, width, batch = map(int, case.split("x"))
    photo = Image.fromarray(photograph()).resize((width, height), Image.Resampling.BICUBIC)
    pixels = torch.tensor(list(photo.tobytes()), dtype=torch.uint8).view(height, width, 3)
    image = torch.stack([pixels.permute(2, 0, 1).roll(31 * b, 2) for b in range(batch)]).float()
    image = image.to(args.device)
    scores = torch.randn(batch, LABELS, height, width, generator=torch.Generator().manual_seed(0))
    scores = scores.to(args.device).requires_grad_()
    resize = torch.nn.functional.interpolate

    def like_rloss(image: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        how = {"scale_factor": SCALE, "mode": "bilinear", "align_corners": False}
        small = resize(image, scale_factor=SCALE), resize(probabilities, **how)
        return LikeRloss.apply(*small, args.filter)

    def neither(image: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        how = {"scale_factor": SCALE, "mode": "bilinear", "align_corners": False}
        small = resize(image, scale_factor=SCALE), resize(probabilities, **how)
        return -(small[1] * small[1].detach()).sum() / batch

    ours = DenseCRFLoss(1.0, SIGMA_RGB, SIGMA_XY, SCALE, constant=False)
    functions = {"ours": step_of(ours, image, scores), "rloss": step_of(like_rloss, image, scores)}
    values = {}
    for name, step in functions.items():
        values[name] = (step().cpu().double(), scores.grad.cpu().double())
    (ours_value, ours_grad), (value, grad) = values["ours"], values["rloss"]
    differences = {
        "value": ((ours_value - value) / value).abs().item(),
        "gradient": ((ours_grad - grad).norm() / grad.norm()).item(),
    }
    functions["neither"] = step_of(neither, image, scores)
    timings = time_paired(functions, args.min_runs, args.min_time, args.device)
    return {
        "case": case,
        "labels": LABELS,
        "relative_differences": differences,
        "ratio": timings["rloss"].median / timings["ours"].median,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
    }


def table(results: list[dict], title: str, peer: str) -> Table:
    out = Table(title=title, caption="milliseconds of a step, median; differences are relative")
    for name in (
        "case",
        "threads",
        "ours",
        peer,
        "neither",
        "x",
        "value differs",
        "gradient differs",
    ):
        out.add_column(name, justify="right")
    for result in results:
        times = [f"{1e3 * t['median']:.3g}" for t in result["timings"].values()]
        differences = [f"{d:.1e}" for d in result["relative_differences"].values()]
        cells = [result["case"], str(result["threads"]), *times, f"{result['ratio']:.1f}"]
        out.add_row(*cells, *differences)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES, metavar="HxWxB")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peer", type=Path, metavar="LIBRARY", help="made of rloss's filter")
    parser.add_argument("--min-runs", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.3, help="seconds of each variant")
    add_outputs(parser)
    args = parser.parse_args()
    args.filter = filter_of_ours if args.peer is None else of_library(args.peer)
    args.peer = None if args.peer is None else args.peer.name  # for the record of the run
    results = []
    for threads in args.threads:
        torch.set_num_threads(threads)
        for case in args.cases:
            results.append({"threads": threads} | bench(case, args))
    machine = machine_info()
    name = "like rloss" if args.peer is None else "rloss"
    Console(width=120).print(table(results, machine["gpu"] or machine["cpu"], name))
    args.filter = None
    write_results(args, results)


if __name__ == "__main__":
    main()
