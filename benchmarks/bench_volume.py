"""Times the dense CRF on volumes, beside pydensecrf's and SimpleCRF's where they can be imported.

pydensecrf has no volumes: its users give its general energy the features of
`utils.create_pairwise_bilateral`. SimpleCRF's denseCRF3D takes x, y, z instead of z, y, x and gives
labels alone, so that its lattice is another one; its own example has 2 iterations.

    python benchmarks/bench_volume.py --case 136 136 136 2 --case 128 256 256 2 --threads 2 1
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

import numpy as np
import torch
from torch.nn import functional

from _outputs import add_outputs
from _timing import write_results
from deeplab_native import CRFParams, MeanField, dense_crf

try:
    import pydensecrf.densecrf as pydensecrf
    from pydensecrf import utils
except ImportError:
    pydensecrf = None
try:
    import denseCRF3D
except ImportError:
    denseCRF3D = None  # noqa: N816

# of SimpleCRF's example of volumes
PARAMS = CRFParams(w1=3, sigma_alpha=5, sigma_beta=5, w2=2, sigma_gamma=5)


def smooth(size: tuple[int, ...], cell: int, generator: torch.Generator) -> torch.Tensor:
    """A random field of waves of about `cell` voxels, of variance 1."""
    small = torch.randn([1, 1, *(-(-n // cell) + 1 for n in size)], generator=generator)
    field = functional.interpolate(small, size, mode="trilinear", align_corners=True)[0, 0]
    return field / field.std()


def scan(size: tuple[int, ...], labels: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one scan, energies (1, L, D, H, W) float32 and values (1, 1, D, H, W) uint8.

    A body with smooth organs, each of its own brightness, in a smooth field of it and noise, as in
    MR; no voxel of air is 0. The scores know the organs but for smooth mistakes and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    axes = [torch.linspace(-1, 1, n) for n in size]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    shape = smooth(size, 24, generator)
    body = (z**2 + y**2 + x**2 + 0.1 * shape) < 0.8
    image = torch.where(body, 110.0, 14.0)
    logits = torch.zeros(labels, *size)
    taken = torch.zeros(size, dtype=torch.bool)
    for label in range(1, labels):
        organ = smooth(size, 20 + 4 * label, generator)
        inside = body & ~taken & (organ > 0.9)
        taken |= inside
        image += inside * (-1) ** label * (40.0 + 12 * label)
        unsure = smooth(size, 7, generator) * 0.6 + torch.randn(size, generator=generator) * 0.5
        logits[label] = 3 * (organ.clamp(-0.5, 2) - 0.9) * body - 2.0 * ~body + unsure
    image *= 1 + 0.06 * smooth(size, 48, generator)
    image += 5 * torch.randn(size, generator=generator)
    return -logits.log_softmax(0)[None], image.clamp(1, 255).to(torch.uint8)[None, None]


def with_threads(threads: int, fn: Callable[[], torch.Tensor]) -> np.ndarray:
    torch.set_num_threads(threads)
    return fn()[0].numpy()


def of_pydensecrf(unary: np.ndarray, image: np.ndarray, iterations: int) -> np.ndarray:
    labels, *size = unary.shape
    crf = pydensecrf.DenseCRF(image.size, labels)
    crf.setUnaryEnergy(unary.reshape(labels, -1))
    gaussian = utils.create_pairwise_gaussian((PARAMS.sigma_gamma,) * 3, size)
    crf.addPairwiseEnergy(gaussian, compat=PARAMS.w2)
    # chdim -1: without an axis of channels
    sdims = (PARAMS.sigma_alpha,) * 3
    bilateral = utils.create_pairwise_bilateral(sdims, (PARAMS.sigma_beta,), image, chdim=-1)
    crf.addPairwiseEnergy(bilateral, compat=PARAMS.w1)
    return np.array(crf.inference(iterations)).reshape(unary.shape)


@contextmanager
def quiet() -> Iterator[None]:
    """What native code prints goes nowhere."""
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def of_simplecrf(unary: np.ndarray, image: np.ndarray, iterations: int) -> np.ndarray:
    """Labels. It takes the first axis to be the fastest one of its memory: reshaped, not turned."""
    size = image.shape
    probabilities = np.ascontiguousarray(np.moveaxis(np.exp(-unary), 0, -1))
    std = {f"Pos{a}Std": float(PARAMS.sigma_gamma) for a in "RCZ"}
    std |= {f"Bilateral{a}Std": float(PARAMS.sigma_alpha) for a in "RCZ"}
    how = {
        "MaxIterations": float(iterations), "PosW": float(PARAMS.w2), "ModalityNum": 1,
        "BilateralW": float(PARAMS.w1), "BilateralModsStds": (float(PARAMS.sigma_beta),),
    }  # fmt: skip
    with quiet():
        labels = denseCRF3D.densecrf3d(
            image.reshape(*size[::-1], 1), probabilities.reshape(*size[::-1], -1), how | std
        )
    return labels.reshape(size)


def bench(size: tuple[int, ...], labels: int, args: argparse.Namespace) -> dict:
    """The least seconds of each, run in turn, and how far the results are from each other.

    Also the processor's seconds, of all threads, which other work on the machine hardly changes.
    """
    unary, image = scan(size, labels)
    how = unary[0].numpy(), image[0, 0].numpy(), args.iterations
    ours = partial(dense_crf, unary, image, PARAMS, iterations=args.iterations)
    functions = {f"{n} threads": partial(with_threads, n, ours) for n in args.threads}
    if args.scale:
        scaled = partial(ours, scale=args.scale)
        functions[f"scale {args.scale:g}"] = partial(with_threads, max(args.threads), scaled)
    if pydensecrf is not None and not args.no_peer:
        functions["pydensecrf"] = partial(of_pydensecrf, *how)
    if denseCRF3D is not None and not args.no_peer:
        functions["SimpleCRF"] = partial(of_simplecrf, *how)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    processor: dict[str, list[float]] = {name: [] for name in functions}
    results: dict[str, np.ndarray] = {}
    for _ in range(args.runs):
        for name, run in functions.items():
            start, processor_start = time.perf_counter(), time.process_time()
            results[name] = run()
            processor[name].append(round(time.process_time() - processor_start, 3))
            seconds[name].append(round(time.perf_counter() - start, 3))
    first = results[f"{args.threads[0]} threads"]
    agreement = {name: against(first, q) for name, q in results.items() if q is not first}
    vertices = MeanField.from_image(unary, image, PARAMS).num_vertices[0]
    return {
        "size": list(size), "labels": labels, "voxels": image.numel(), "vertices": vertices,
        "seconds": seconds, "processor_seconds": processor, "agreement": agreement,
        "changed_by_crf": float((first.argmax(0) != how[0].argmin(0)).mean()),
    }  # fmt: skip


def against(q: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Of marginals, or of labels alone."""
    labels = other if other.ndim == 3 else other.argmax(0)
    found = {"other_labels": float((q.argmax(0) != labels).mean())}
    if other.ndim == 4:
        error = np.abs(q - other)
        found |= {"mean_dq": float(error.mean()), "max_dq": float(error.max())}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = ("D", "H", "W", "LABELS")
    parser.add_argument("--case", type=int, nargs=4, action="append", metavar=names)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--scale", type=float, help="also at this fraction of the resolution")
    parser.add_argument("--runs", type=int, default=3, help="of each, in turn; the least counts")
    parser.add_argument("--no-peer", action="store_true")
    add_outputs(parser)
    args = parser.parse_args()
    results = []
    for *size, labels in args.case or [[136, 136, 136, 2]]:
        results.append(bench(tuple(size), labels, args))
        write_results(args, results, params=asdict(PARAMS))
        found = results[-1]
        print(size, labels, found["vertices"], found["seconds"], found["processor_seconds"])
        print(found["agreement"])


if __name__ == "__main__":
    main()
