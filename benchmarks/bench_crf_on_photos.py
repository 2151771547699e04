"""How many times as fast as pydensecrf the dense CRF is, over many photographs.

    python benchmarks/bench_crf_on_photos.py DATA_FOLDER --photos 149 --threads 1 2 --json out.json

Photos of crf_on_voc_scores.py's folder at their own sizes, with the real scores of all 21 labels:
those that crf_search_on_voc_scores.py does not search on, evenly spaced where fewer are asked for.
Each is run with the four settings of bench_crf.py, weights 10 and 3: whole calls, with each number
of threads and by pydensecrf (which has one thread) in turn, after one run of each that is not
counted. A photo's ratio is that of its medians; of a setting, and of all photos and settings
together, the table has the median, the deciles and the least. "labels" is the share of all pixels
whose label differs from pydensecrf's, "max |dQ|" the largest difference of a marginal.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from _outputs import add_outputs
from _timing import machine_info, time_paired, write_results
from bench_crf import Case, peer, peer_crf, with_threads
from crf_on_voc_scores import NUM_LABELS, load
from crf_search_on_voc_scores import split
from deeplab_native import dense_crf

SETTINGS = ((80, 13), (60, 5), (67, 3), (50, 3))  # sigma_alpha, sigma_beta


def held_out(folder: Path, photos: int | None) -> list[str]:
    """Names of photos, evenly spaced over those that no parameters were searched on."""
    _, names = split((folder / "ids.txt").read_text().split(), seed=0)
    if photos is None:
        return names
    if not 1 <= photos <= len(names):
        sys.exit(f"--photos: expected 1 to {len(names)} of {folder}, got {photos}")
    return [names[k * len(names) // photos] for k in range(photos)]


def bench(case: Case, unary: torch.Tensor, image: torch.Tensor, args: argparse.Namespace) -> dict:
    """Seconds of each variant on one photo, and how well the results agree."""
    rgb = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
    run_peer = partial(peer_crf, case, unary[0].flatten(1).numpy(), rgb, args.iterations)
    whole = partial(dense_crf, unary, image, case.params, iterations=args.iterations)
    functions = {str(t): partial(with_threads, t, whole) for t in args.threads}
    expected = run_peer().reshape(unary.shape[1:])
    q = functions[str(args.threads[-1])]()[0].numpy()
    timings = time_paired(functions | {"pydensecrf": run_peer}, args.runs, 0.0)
    seconds = {name: timing.median for name, timing in timings.items()}
    return {
        "seconds": seconds,
        "ratios": {name: seconds["pydensecrf"] / seconds[name] for name in functions},
        "max_dq": float(np.abs(q - expected).max()),
        "labels_differ": int((q.argmax(0) != expected.argmax(0)).sum()),
        "pixels": case.height * case.width,
    }


def summary(name: str, results: list[dict]) -> dict:
    """The ratios of many photos, for each number of threads."""
    row: dict = {"setting": name, "photos": len(results), "ratios": {}}
    for threads in results[0]["ratios"]:
        ratios = sorted(r["ratios"][threads] for r in results)
        deciles = statistics.quantiles(ratios, n=10, method="inclusive") if ratios[1:] else ratios
        row["ratios"][threads] = {
            "median": statistics.median(ratios),
            "p10": deciles[0],
            "p90": deciles[-1],
            "least": ratios[0],
        }
    row["max_dq"] = max(r["max_dq"] for r in results)
    row["labels_differ"] = sum(r["labels_differ"] for r in results) / sum(
        r["pixels"] for r in results
    )
    return row


def summaries(results: list[dict]) -> list[dict]:
    """One for each setting, and one of all together."""
    names = list(dict.fromkeys(r["setting"] for r in results))
    rows = [summary(name, [r for r in results if r["setting"] == name]) for name in names]
    return [*rows, summary("all", results)]


def table(rows: list[dict], threads: list[int], title: str) -> Table:
    out = Table(title=title, caption="times as fast as pydensecrf: median (p10-p90), least")
    out.add_column("sigmas")
    out.add_column("photos", justify="right")
    for t in threads:
        out.add_column(f"{t} thread{'s' * (t > 1)}", justify="right")
    out.add_column("max |dQ|", justify="right")
    out.add_column("labels", justify="right")
    for row in rows:
        ratios = [row["ratios"][str(t)] for t in threads]
        cells = [
            f"{r['median']:.1f} ({r['p10']:.1f}-{r['p90']:.1f}), {r['least']:.1f}" for r in ratios
        ]
        agreement = [f"{row['max_dq']:.1e}", f"{100 * row['labels_differ']:.4f} %"]
        out.add_row(row["setting"], str(row["photos"]), *cells, *agreement)
    return out


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="see crf_on_voc_scores.py")
    parser.add_argument("--photos", type=int, help="default: all that are held out")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, torch.get_num_threads()])
    parser.add_argument("--runs", type=int, default=3, help="of each variant, on each photo")
    parser.add_argument("--iterations", type=int, default=10)
    add_outputs(parser)
    args = parser.parse_args()
    args.threads = sorted(set(args.threads))
    for name, least in (("threads", args.threads[0]), ("runs", args.runs)):
        if least < 1:
            parser.error(f"--{name}: expected 1 or more, got {least}")
    if args.iterations < 0:
        parser.error(f"--iterations: expected 0 or more, got {args.iterations}")
    if not (args.folder / "ids.txt").is_file():
        parser.error(f"folder: {args.folder} has no ids.txt")
    if peer is None:
        parser.error("pydensecrf cannot be imported: there is nothing to compare with")
    return args


def main() -> None:
    args = parse()
    results = []
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        names = held_out(args.folder, args.photos)
        for name in progress.track(names):
            logits, image, _ = load(args.folder, name)
            unary = -logits.log_softmax(1).contiguous()
            for alpha, beta in SETTINGS:
                case = Case(*image.shape[2:], NUM_LABELS, alpha, beta)
                result = {"photo": name, "setting": f"{alpha}/{beta}", "case": asdict(case)}
                results.append(result | bench(case, unary, image, args))
            write_results(args, results, threads=args.threads, summary=summaries(results))
    machine = machine_info()
    title = f"{args.iterations} iterations on cpu, {machine['cpu']}, {machine['isa']}"
    Console(width=120).print(table(summaries(results), args.threads, title))


if __name__ == "__main__":
    main()
