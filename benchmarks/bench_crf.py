"""Times the dense CRF, and beside it pydensecrf where that can be imported.

    python benchmarks/bench_crf.py                         # a photograph that matplotlib ships
    python benchmarks/bench_crf.py --voc FOLDER            # real score maps, median over photos
    python benchmarks/bench_crf.py --threads 1 2 --json benchmarks/results/crf.json
    python benchmarks/bench_crf.py --html crf.html         # the same as a report to look at
    python benchmarks/bench_crf.py --device cuda --batch 1 16     # on a GPU, by CUDA events

Every time is that of a whole call: lattices of both kernels, normalisation, ten iterations, Q as an
array. "build" and "inference" are its parts, timed apart on an object of its own; "vertices" are
those of the Gaussian and the bilateral lattice. pydensecrf, which has one thread, runs in turn with
ours in the same process; "labels" is the share of pixels whose label differs, "max |dQ|" the
largest difference of a marginal.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from _crf_cuda import bench_cuda, table_cuda
from _outputs import add_outputs
from _timing import machine_info, time_paired, write_results
from crf_on_voc_scores import load
from deeplab_native import CRFParams, MeanField, dense_crf
from deeplab_native.demo.photo import photograph

try:
    import pydensecrf.densecrf as peer
except ImportError:
    peer = None


@dataclass(frozen=True)
class Case:
    """An image size, a label count, and the bilateral kernel's sigmas; the Gaussian is 3 / 3."""

    height: int
    width: int
    labels: int
    sigma_alpha: float
    sigma_beta: float

    @property
    def params(self) -> CRFParams:
        return CRFParams(10, self.sigma_alpha, self.sigma_beta, 3, 3)

    @property
    def name(self) -> str:
        size = f"{self.height}x{self.width}x{self.labels}"
        return f"{size} {self.sigma_alpha:g}/{self.sigma_beta:g}"


CASES = [
    Case(375, 500, 21, 80, 13),
    Case(375, 500, 21, 60, 5),
    Case(375, 500, 21, 67, 3),
    Case(375, 500, 21, 50, 3),
    Case(375, 500, 2, 80, 13),
    Case(375, 500, 2, 67, 3),
    Case(1024, 2048, 19, 80, 13),
    Case(1024, 2048, 19, 60, 5),
]
QUICK = [Case(96, 128, 21, 80, 13), Case(96, 128, 2, 67, 3)]


def sample(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies (1, L, H, W) of smooth random scores, and the sample photograph at that size."""
    size = (case.width, case.height)
    photo = np.array(Image.fromarray(photograph()).resize(size, Image.Resampling.BICUBIC))
    generator = torch.Generator().manual_seed(0)
    coarse = 3 * torch.randn(1, case.labels, 9, 12, generator=generator)
    return energies(coarse, case), torch.from_numpy(photo).permute(2, 0, 1)[None].contiguous()


def energies(scores: torch.Tensor, case: Case) -> torch.Tensor:
    full = torch.nn.functional.interpolate(
        scores, (case.height, case.width), mode="bilinear", align_corners=True
    )
    return -full.log_softmax(1).contiguous()


PHOTO = (375, 500)  # a frequent size in the folder of score maps


def inputs(
    case: Case, voc: Path | None, photos: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The sample, or photos with their real scores (the largest L labels), enlarged to the case."""
    if voc is None:
        yield sample(case)
        return
    found, size = 0, (case.height, case.width)
    for name in (voc / "ids.txt").read_text().split():
        with np.load(voc / "scores" / f"{name}.npz") as file:
            if tuple(file["hw"]) != PHOTO:
                continue
        logits, image, _ = load(voc, name)
        strongest = logits.amax((0, 2, 3)).topk(case.labels).indices
        logits = logits[:, strongest]
        if size != PHOTO:
            image = torch.nn.functional.interpolate(image, size, mode="bicubic")
        yield energies(logits, case), image.contiguous()
        found += 1
        if found == photos:
            return
    if found < photos:
        sys.exit(f"{voc} has only {found} photos of {PHOTO[0]}x{PHOTO[1]}, not {photos}")


def peer_crf(case: Case, unary: np.ndarray, image: np.ndarray, iterations: int) -> np.ndarray:
    crf = peer.DenseCRF2D(case.width, case.height, case.labels)
    crf.setUnaryEnergy(unary)
    params = case.params
    crf.addPairwiseGaussian(sxy=params.sigma_gamma, compat=params.w2)
    crf.addPairwiseBilateral(
        sxy=params.sigma_alpha, srgb=params.sigma_beta, rgbim=image, compat=params.w1
    )
    return np.array(crf.inference(iterations))


def with_threads(threads: int, fn):
    torch.set_num_threads(threads)
    return fn()


def bench(case: Case, unary: torch.Tensor, image: torch.Tensor, args: argparse.Namespace) -> dict:
    """Seconds of each variant on one photo, and how well the results agree."""
    functions = {}
    for threads in args.threads:
        whole = partial(dense_crf, unary, image, case.params, iterations=args.iterations)
        functions[f"whole {threads}"] = partial(with_threads, threads, whole)
        build = partial(MeanField.from_image, unary, image, case.params)
        infer = partial(with_threads(threads, build).inference, args.iterations)
        functions[f"build {threads}"] = partial(with_threads, threads, build)
        functions[f"inference {threads}"] = partial(with_threads, threads, infer)
    vertices = MeanField.from_image(unary, image, case.params).num_vertices[0]
    result: dict = {"case": asdict(case), "vertices": vertices}
    if peer is not None and not args.no_peer:
        flat = unary[0].flatten(1).numpy()
        rgb = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        run_peer = partial(peer_crf, case, flat, rgb, args.iterations)
        functions["pydensecrf"] = run_peer
        expected = run_peer().reshape(unary.shape[1:])
        q = functions[f"whole {args.threads[-1]}"]()[0].numpy()
        result["max_dq"] = float(np.abs(q - expected).max())
        result["labels_differ"] = float((q.argmax(0) != expected.argmax(0)).mean())
    timings = time_paired(functions, args.min_runs, args.min_time)
    result["timings"] = {name: asdict(timing) for name, timing in timings.items()}
    return result


def bench_on_gpu(case: Case, args: argparse.Namespace) -> list[dict]:
    """A result for each batch size, on one photograph, shifted."""
    unary, image = next(inputs(case, args.voc, 1))
    flat, rgb = unary[0].flatten(1).numpy(), np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    with_peer = peer is not None and not args.no_peer
    run_peer = partial(peer_crf, case, flat, rgb, args.iterations) if with_peer else None
    vertices = MeanField.from_image(unary, image, case.params).num_vertices[0]
    results = []
    for batch in args.batch:
        result = bench_cuda(
            case.params,
            unary,
            image,
            batch=batch,
            iterations=args.iterations,
            device=args.device,
            min_time=args.min_time or 0.3,
            peer=run_peer,
        )
        results.append({"name": case.name, "case": asdict(case), "vertices": vertices} | result)
    return results


def summary(results: list[dict]) -> dict:
    """One case over its photos: medians of medians, and the median of the photos' ratios."""
    merged: dict = {"case": results[0]["case"], "photos": len(results), "timings": {}, "ratios": {}}
    for name in results[0]["timings"]:
        merged["timings"][name] = {
            key: statistics.median(r["timings"][name][key] for r in results)
            for key in ("median", "p10", "p90", "runs")
        }
        if name.startswith("whole") and "pydensecrf" in results[0]["timings"]:
            merged["ratios"][name] = statistics.median(
                r["timings"]["pydensecrf"]["median"] / r["timings"][name]["median"] for r in results
            )
    merged["vertices"] = [
        statistics.median(sizes) for sizes in zip(*(r["vertices"] for r in results), strict=True)
    ]
    for key in ("max_dq", "labels_differ"):
        if key in results[0]:
            merged[key] = max(r[key] for r in results)
    return merged


def table(results: list[dict], threads: list[int], title: str) -> Table:
    out = Table(title=title, caption="milliseconds, median (p10-p90); x: against pydensecrf")
    out.add_column("case")
    out.add_column("vertices", justify="right")
    for t in threads:
        out.add_column(f"{t} thread{'s' * (t > 1)}", justify="right")
        out.add_column("FPS", justify="right")
        out.add_column("build + inference", justify="right")
        out.add_column("x", justify="right")
    for name in ("pydensecrf", "max |dQ|", "labels"):
        out.add_column(name, justify="right")
    for result in results:
        timings = result["timings"]
        vertices = " + ".join(f"{v / 1000:.0f}k" for v in result["vertices"])
        cells = [Case(**result["case"]).name, vertices]
        for t in threads:
            whole, ratio = timings[f"whole {t}"], result["ratios"].get(f"whole {t}")
            parts = [
                f"{1e3 * timings[f'{part} {t}']['median']:.0f}"
                for part in ("build", "inference")
                if f"{part} {t}" in timings
            ]
            cells += [spread(whole), f"{1 / whole['median']:.1f}", " + ".join(parts)]
            cells += [f"{ratio:.1f}" if ratio else ""]
        if "pydensecrf" in timings:
            cells += [spread(timings["pydensecrf"]), f"{result['max_dq']:.1e}"]
            cells += [f"{100 * result['labels_differ']:.4f} %"]
        out.add_row(*cells)
    return out


def spread(timing: dict) -> str:
    return f"{timing['median'] * 1e3:.0f} ({timing['p10'] * 1e3:.0f}-{timing['p90'] * 1e3:.0f})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16], help="on a GPU")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--voc", type=Path, metavar="FOLDER", help="see crf_on_voc_scores.py")
    parser.add_argument("--photos", type=int, default=9, help="of that folder, for each case")
    parser.add_argument("--cases", default="", help="only cases whose name contains this")
    parser.add_argument("--quick", action="store_true", help="small images, few runs")
    parser.add_argument("--no-peer", action="store_true", help="leave pydensecrf out")
    parser.add_argument("--min-runs", type=int, default=9)
    parser.add_argument("--min-time", type=float, default=0.0, help="seconds of each variant")
    add_outputs(parser)
    args = parser.parse_args()
    args.threads = sorted(set(args.threads))
    if args.threads[0] < 1:
        parser.error(f"--threads: expected 1 or more, got {args.threads[0]}")
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.error(f"--device {args.device}: torch finds no GPU")
    if args.quick:
        args.min_runs = min(args.min_runs, 3)
    return args


def main() -> None:
    args = parse()
    cases = [case for case in (QUICK if args.quick else CASES) if args.cases in case.name]
    if not cases:
        sys.exit(f"--cases: no case contains {args.cases!r}")
    results = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(cases))
        for case in cases:
            progress.update(task, description=case.name)
            if args.device != "cpu":
                results += bench_on_gpu(case, args)
            else:
                photos = inputs(case, args.voc, args.photos)
                results.append(summary([bench(case, *photo, args) for photo in photos]))
            write_results(args, results, threads=args.threads)
            progress.advance(task)
    machine = machine_info()
    if args.device == "cpu":
        title = f"{args.iterations} iterations on cpu, {machine['cpu']}, {machine['isa']}"
        Console(width=170).print(table(results, args.threads, title))
    else:
        title = f"{args.iterations} iterations on {machine['gpu']}"
        Console(width=170).print(table_cuda(results, title))
    if peer is None:
        print("pydensecrf cannot be imported: no comparison")


if __name__ == "__main__":
    main()
