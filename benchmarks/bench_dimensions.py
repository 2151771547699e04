"""Times a dense CRF by the number of its features' dimensions, beside pydensecrf where it is given.

    python benchmarks/bench_dimensions.py --dims 5 16 24 32 48 64 --size 512
    python benchmarks/bench_dimensions.py --size 256 --peers FOLDER --threads 1

The points are the pixels of a photograph with its position over 80 and d - 2 bands over 13,
mixtures of the three colours with noise of one grey level: as many bands as a hyperspectral image
has, which say little more than three colours do. Both sides get the same features by
addPairwiseEnergy, which builds the lattice and the normalisation, and then iterate. Each is
measured in a process of its own: processor time of all threads, for a machine may be busy, and the
memory that it takes at most beside the features and the unary. What both infer is compared at every
point.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from _outputs import add_outputs

DIMENSIONS = [5, 16, 24, 32, 48, 64]
ITERATIONS = 2  # beyond the first, which also prepares what all share


def features_of(image: np.ndarray, d: int) -> np.ndarray:
    """(d, N) float32 of an image (H, W, 3): y, x, and d - 2 bands, over their deviations."""
    generator = np.random.default_rng(0)
    height, width, _ = image.shape
    mixture = np.abs(generator.normal(size=(d - 2, 3)))
    mixture /= mixture.sum(1, keepdims=True)
    noise = generator.normal(size=(height, width, d - 2))
    bands = np.clip(image @ mixture.T + noise, 0, 255)
    y, x = np.mgrid[:height, :width]
    planes = [y[None] / 80, x[None] / 80, bands.transpose(2, 0, 1) / 13]
    return np.ascontiguousarray(np.concatenate(planes).reshape(d, -1), np.float32)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Peak:
    """The most memory that the process has meanwhile, beside what it has now."""

    def __enter__(self) -> Peak:
        self.before = self.most = resident_bytes()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(0.02):
            self.most = max(self.most, resident_bytes())

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()


def measure(who: str, d: int, args: argparse.Namespace, q_file: Path) -> dict:
    """In this process; Q goes to a file."""
    sys.path += [str(args.peers)] if args.peers else []
    crf = importlib.import_module(
        "pydensecrf.densecrf" if who == "pydensecrf" else "deeplab_native.pydensecrf.densecrf"
    )
    if who == "ours":
        crf.set_num_threads(args.threads)
    photo = Image.open(args.photo).convert("RGB").resize((args.size, args.size))
    features = features_of(np.asarray(photo, np.float32), d)
    n = features.shape[1]
    unary = np.random.default_rng(1).random((args.labels, n)).astype(np.float32) * 3
    field = crf.DenseCRF(n, args.labels)
    field.setUnaryEnergy(unary)
    with Peak() as peak:
        start = time.process_time()
        field.addPairwiseEnergy(features, 5.0)
        built = time.process_time()
        field.inference(1)
        first = time.process_time()
        q = np.array(field.inference(1 + ITERATIONS)).reshape(args.labels, n)
        end = time.process_time()
    np.save(q_file, q)
    iteration = ((end - first) - (first - built)) / ITERATIONS
    return {"build": built - start, "iteration": iteration, "bytes": peak.most - peak.before}


def bench(d: int, args: argparse.Namespace, folder: Path) -> dict:
    result: dict = {"d": d, "size": args.size, "labels": args.labels, "threads": args.threads}
    marginals = []
    for who in ["ours", *(["pydensecrf"] if args.peers else [])]:
        q_file = folder / f"{who}.npy"
        command = [sys.executable, __file__, *sys.argv[1:], "--one", who, str(d), str(q_file)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result[who] = json.loads(done.stdout)
        marginals.append(np.load(q_file))
    if args.peers:
        ours, theirs = marginals
        result["difference"] = {
            "max": float(np.abs(ours - theirs).max()),
            "labels": float((ours.argmax(0) != theirs.argmax(0)).mean()),
        }
    return result


def line(result: dict) -> str:
    cells = [f"d {result['d']:2}"]
    for who in ("ours", "pydensecrf"):
        if who in result:
            one = result[who]
            cells.append(
                f"{who}: build {one['build']:.3f} s, iteration {one['iteration']:.3f} s, "
                f"{one['bytes'] / 1e6:.0f} MB"
            )
    if "difference" in result:
        both = result["difference"]
        cells.append(f"max |dQ| {both['max']:.1e}, labels {100 * both['labels']:.3f} %")
    return " | ".join(cells)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, help="default: the sample photograph of `demo`")
    parser.add_argument("--dims", type=int, nargs="+", default=DIMENSIONS)
    parser.add_argument("--size", type=int, default=512, help="side of the photograph")
    parser.add_argument("--labels", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1, help="of ours")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="with pydensecrf")
    add_outputs(parser)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if any(not 3 <= d <= 64 for d in args.dims):
        parser.error(f"--dims: expected 3 to 64, got {args.dims}")
    if args.photo is not None and not args.photo.is_file():
        parser.error(f"--photo: {args.photo} is no file")
    return args


def main() -> None:
    args = arguments()
    if args.photo is None:
        from deeplab_native.demo.photo import photograph

        with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as file:
            Image.fromarray(photograph()).save(file)
        args.photo = Path(file.name)
        sys.argv += ["--photo", file.name]
    if args.one:
        who, d, q_file = args.one
        print(json.dumps(measure(who, int(d), args, Path(q_file))))
        return
    from _timing import write_results

    results = []
    with tempfile.TemporaryDirectory() as folder:
        for d in args.dims:
            results.append(bench(d, args, Path(folder)))
            write_results(args, results)
            print(line(results[-1]), flush=True)


if __name__ == "__main__":
    main()
