"""Makes the table by which `atrous_conv2d(algorithm="auto")` chooses on CUDA.

    python benchmarks/conv_table.py            # writes src/deeplab_native/ops/_conv_measured.json
    python benchmarks/conv_table.py --check    # fails where that file is not what it would write
    python benchmarks/conv_table.py --add RAW.json benchmarks/results/conv_h200.json

--add makes the short form, which is committed, of what bench_conv.py wrote on a GPU: medians in
milliseconds, a row to a line. The table comes from all results that have a compute capability. A
native algorithm takes a row where torch's convolution needs more than 5 % longer than the fastest,
so that a choice, once made, is worth it.

For maps in channels_last of which, under `torch.backends.cudnn.deterministic`, only torch's
convolution was measured ("aten_cl_deterministic", copy included), a native algorithm is taken where
it needs less than half of that for the contiguous map.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from deeplab_native._files import atomic_path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
TABLE = HERE.parent / "src" / "deeplab_native" / "ops" / "_conv_measured.json"

NATIVE = ("im2col", "space_to_batch", "direct")
# im2col would need CUBLAS_WORKSPACE_CONFIG under torch.use_deterministic_algorithms
NATIVE_STEADY = ("space_to_batch", "direct")
WORTH_IT = 1.05  # torch's time over the fastest
FAR_BEHIND = 2.0  # where the fastest was measured in another layout
KERNEL = 3  # of every layer of bench_conv.py
COLUMNS = (
    *("capability", "dtype", "layout", "trains", "same_bits"),
    *("channels", "filters", "kernel", "rate", "size", "batch", "algorithm"),
)


def compact(
    raw: dict,
    commit: str | None = None,
    capability: str | None = None,
    renamed: dict[str, str] | None = None,
) -> str:
    """The JSON of bench_conv.py in short; what an older one does not say may be given."""
    names = renamed or {}
    machine = dict(raw["machine"])
    if commit:
        machine["commit"] = commit
    if capability:
        machine["capability"] = [int(n) for n in capability.split(".")]
    if "capability" not in machine:
        raise SystemExit("conv_table: the results name no compute capability; see --capability")
    rows = []
    for result in raw["results"]:
        case = result["case"]
        row = {"layer": case["layer"]["name"]}
        row |= {k: case["layer"][k] for k in ("channels", "filters", "rate")}
        row |= {k: case[k] for k in ("size", "batch", "dtype", "layout")}
        row["backward"] = case.get("backward", raw["arguments"].get("backward", False))
        medians = {name: timing["median"] for name, timing in result["timings"].items()}
        row["ms"] = {names.get(name, name): float(f"{1e3 * s:.4g}") for name, s in medians.items()}
        rows.append("    " + json.dumps(row))
    head = json.dumps({"machine": machine}, indent=2)[:-2]
    return f'{head},\n  "rows": [\n' + ",\n".join(rows) + "\n  ]\n}\n"


def measured(folder: Path = RESULTS) -> Iterator[tuple[str, dict]]:
    """(name, content) of the results of convolutions on GPUs."""
    for path in sorted(folder.glob("conv_*.json")):
        content = json.loads(path.read_text())
        if "rows" in content and "capability" in content["machine"]:
            yield path.name, content


def fastest(
    times: dict[str, float], torchs: str, native: Iterable[str], behind: float = WORTH_IT
) -> str:
    """The native algorithm where torch's convolution is behind; else "auto", which is torch's."""
    best = min((name for name in native if name in times), key=times.__getitem__, default=None)
    return best if best and times[torchs] > behind * times[best] else "auto"


def choices(row: dict) -> Iterator[tuple[str, bool, str]]:
    """(layout, asked for the same bits, algorithm) that a row of results decides."""
    times, layout = row["ms"], row["layout"]
    if "aten" in times:
        yield layout, False, fastest(times, "aten", NATIVE)
    if "aten_deterministic" in times:
        yield layout, True, fastest(times, "aten_deterministic", NATIVE_STEADY)
    if layout == "contiguous" and "aten_cl_deterministic" in times:
        other = fastest(times, "aten_cl_deterministic", NATIVE_STEADY, FAR_BEHIND)
        yield "channels_last", True, other


def merged(rows: list[dict]) -> list[dict]:
    """Layers of two nets may be the same; of what was measured more than once, the medians."""
    groups = defaultdict(list)
    for row in rows:
        key = tuple(row[k] for k in KEY)
        groups[key].append(row)
    return [
        group[0]
        | {
            "ms": {
                name: statistics.median(row["ms"][name] for row in group if name in row["ms"])
                for name in {name for row in group for name in row["ms"]}
            }
        }
        for _, group in sorted(groups.items())
    ]


KEY = ("dtype", "layout", "backward", "channels", "filters", "rate", "size", "batch")


def table(results: list[tuple[str, dict]]) -> str:
    """The file that the package reads: JSON, a row to a line."""
    decided: dict[tuple, str] = {}
    for _, content in results:
        capability = content["machine"]["capability"]
        for row in merged(content["rows"]):
            shape = *(row[k] for k in ("channels", "filters")), KERNEL, row["rate"]
            shape += row["size"], row["batch"]
            for layout, same_bits, algorithm in choices(row):
                kind = tuple(capability), row["dtype"], layout, row["backward"], same_bits
                if layout == row["layout"] or (*kind, *shape) not in decided:
                    decided[(*kind, *shape)] = algorithm
    head = {
        "made by": "benchmarks/conv_table.py",
        "measured": [
            {"file": name} | {k: content["machine"][k] for k in ("gpu", "torch", "date", "commit")}
            for name, content in results
        ],
        "columns": COLUMNS,
    }
    rows = (json.dumps((*what, algorithm)) for what, algorithm in sorted(decided.items()))
    return json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", nargs=2, type=Path, metavar=("RAW", "SHORT"))
    parser.add_argument("--commit", help="for --add: of the measured build, where RAW has another")
    parser.add_argument("--capability", help="for --add: of the GPU, as 9.0, where RAW has none")
    parser.add_argument(
        "--rename", nargs="+", default=[], metavar="OLD=NEW", help="for --add: of variants"
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    if args.add:
        raw, short = args.add
        renamed = dict(pair.split("=") for pair in args.rename)
        text = compact(json.loads(raw.read_text()), args.commit, args.capability, renamed)
        with atomic_path(short) as temporary:
            temporary.write_text(text)
    text = table(list(measured()))
    if args.check:
        return int(TABLE.read_text() != text)
    with atomic_path(TABLE) as temporary:
        temporary.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
