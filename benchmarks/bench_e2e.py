"""Times whole nets with the CRF: an image in, its labels out, through models.predict.

    python benchmarks/bench_e2e.py --quick
    python benchmarks/bench_e2e.py --device cuda --batch 1 8 --dtype bfloat16 float32

"predict" is the whole call, kernel by kernel; "predict graph" is what `Predictor` replays as one
CUDA graph. "net" (as it was made), "folded" (as predict runs it), "upsample" (the scores by 8, and
their softmax) and "crf" are its stages, each timed on its own on what the one before gave. All are
in the precision of the case. Weights are random, but scaled so that no activation overflows: times
do not depend on what they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch.nn.functional import interpolate

import deeplab_native
from _cuda_timing import time_cuda
from _outputs import add_outputs
from _timing import machine_info, time_paired, write_results
from deeplab_native import CRFParams, dense_crf, models
from deeplab_native.demo.photo import photograph
from deeplab_native.models._inference import ready

CRF = {"deeplab_resnet101_aspp": "voc-resnet101", "deeplab_vgg16_largefov": "voc-vgg16"}
STAGES = ("predict", "predict graph", "net", "folded", "upsample", "crf")


@dataclass(frozen=True)
class Case:
    """A net on square images of one size; channels_last is the layout of its weights."""

    net: str
    size: int
    dtype: str
    batch: int
    channels_last: bool

    @property
    def name(self) -> str:
        layout = " channels_last" if self.channels_last else ""
        return f"{self.net} {self.size} {self.dtype}{layout} x{self.batch}"


def make_net(case: Case, device: str) -> torch.nn.Module:
    torch.manual_seed(0)
    net = models.create_model(case.net, num_classes=21)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        for parameter in list(net.parameters())[-8:]:  # scores of a few units, not of thousands
            parameter.mul_(0.1)
    net = net.to(device=device, dtype=getattr(torch, case.dtype))
    return net.to(memory_format=torch.channels_last) if case.channels_last else net


def make_images(case: Case, device: str, sets: int) -> list[torch.Tensor]:
    """Batches (B, 3, size, size) of the sample photograph, each image shifted by another amount."""
    size = (case.size, case.size)
    photo = Image.fromarray(photograph()).resize(size, Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
    return [
        torch.cat([image.roll(7 * (s * case.batch + i), -1) for i in range(case.batch)]).to(device)
        for s in range(sets)
    ]


def net_input(net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    padding = (0, -(images.shape[3] - 1) % 8, 0, -(images.shape[2] - 1) % 8)
    return torch.nn.functional.pad(net.preprocessing(images), padding)


def run_net(net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return net(net_input(net, images).to(next(net.parameters()).dtype)).float()


def run_folded(net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    made = ready(net, "model")
    mapped = net_input(net, images).to(made.dtype, memory_format=made.memory_format)
    return made(net, mapped).float()


def upsample(scores: torch.Tensor, size: int) -> torch.Tensor:
    """-log softmax of the scores, on the pixels of the image, as predict makes it."""
    padded = size + -(size - 1) % 8
    if hasattr(deeplab_native, "upsample_unary"):
        return deeplab_native.upsample_unary(scores, padded, size)
    full = interpolate(scores, size=(padded, padded), mode="bilinear", align_corners=True)
    return -full[:, :, :size, :size].contiguous().log_softmax(1)


def bench(case: Case, args: argparse.Namespace) -> dict:
    net = make_net(case, args.device).eval()
    params = CRFParams.preset(args.preset or CRF[case.net])
    images = make_images(case, args.device, 3 if args.device != "cpu" else 1)
    result: dict = {"case": asdict(case), "timings": {}, "errors": {}}
    with torch.inference_mode():
        scores = [run_net(net, image) for image in images]
        unaries = [upsample(s, case.size) for s in scores]
        result["finite"] = all(bool(u.isfinite().all()) for u in unaries)
        stages: dict[str, tuple[Callable, list[tuple]]] = {
            "predict": (
                partial(models.predict, net, crf=params, precision="model"),
                [(i,) for i in images],
            ),
            "net": (partial(run_net, net), [(i,) for i in images]),
            "folded": (partial(run_folded, net), [(i,) for i in images]),
            "upsample": (partial(upsample, size=case.size), [(s,) for s in scores]),
            "crf": (partial(dense_crf, params=params), list(zip(unaries, images, strict=True))),
        }
        if args.device != "cpu":
            predictor = models.Predictor(net, crf=params, precision="model")
            stages["predict graph"] = (predictor, stages["predict"][1])
        if args.device == "cpu":  # in turn, so that what else the machine does meets all alike
            calls = {name: partial(fn, *inputs[0]) for name, (fn, inputs) in stages.items()}
            timings = time_paired(calls, args.min_runs, args.min_time)
            result["timings"] = {name: asdict(timing) for name, timing in timings.items()}
            return result
        for name, (fn, inputs) in stages.items():
            try:
                result["timings"][name] = asdict(
                    time_cuda(fn, inputs, args.min_runs, args.min_time)
                )
            except Exception as error:  # such as an op without a CUDA kernel: the others go on
                result["errors"][name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return result


def table(results: list[dict], title: str) -> Table:
    out = Table(title=title, caption="milliseconds per batch, median (p10-p90)")
    out.add_column("case")
    for stage in (*STAGES, "images/s"):
        out.add_column(stage, justify="right")
    for result in results:
        cells = []
        for stage in STAGES:
            if t := result["timings"].get(stage):
                cells.append(f"{t['median'] * 1e3:.1f} ({t['p10'] * 1e3:.1f}-{t['p90'] * 1e3:.1f})")
            else:
                cells.append(result["errors"].get(stage, "")[:60])
        case = Case(**result["case"])
        whole = [t["median"] for n, t in result["timings"].items() if n.startswith("predict")]
        cells.append(f"{case.batch / min(whole):.2f}" if whole else "")
        out.add_row(case.name, *cells)
    return out


def cases(args: argparse.Namespace) -> list[Case]:
    if args.quick:
        return [Case("deeplab_vgg16_largefov", 65, "float32", 1, False)]
    return [
        Case(net, size, dtype, batch, channels_last)
        for net in args.nets
        for size in args.size
        for dtype in args.dtype
        for batch in args.batch
        for channels_last in ((False, True) if args.device != "cpu" else (False,))
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--nets", nargs="+", choices=list(CRF), default=list(CRF))
    parser.add_argument("--size", type=int, nargs="+", default=[321, 513])
    parser.add_argument("--dtype", nargs="+", default=["float32"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--preset", help="of the CRF; default: the net's own")
    parser.add_argument("--threads", type=int, help="default: torch's own setting")
    parser.add_argument("--quick", action="store_true", help="one small case, few runs")
    parser.add_argument("--min-runs", type=int, default=5)
    parser.add_argument("--min-time", type=float, default=0.5, help="seconds of each stage")
    add_outputs(parser)
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch finds no GPU")
    if args.quick:
        args.min_runs, args.min_time = 2, 0.0
    return args


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)

    results = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(cases(args)))
        for case in cases(args):
            progress.update(task, description=case.name)
            results.append(bench(case, args))
            write_results(args, results)
            progress.advance(task)
    machine = machine_info()
    Console(width=170).print(table(results, f"on {machine['gpu'] or machine['cpu']}"))


if __name__ == "__main__":
    main()
