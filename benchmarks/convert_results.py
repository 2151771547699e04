"""Makes benchmarks/results/nvidia-<gpu>.json of raw results, as gpu_suite.py would have written it.

    python benchmarks/convert_results.py FOLDER --commit 753b9d7 --driver 580

FOLDER has what the benchmarks wrote with --json on that machine (crf.json, aspp.json, conv.json,
e2e.json, s2b.json, permutohedral.json, variants.json: what is there). Figures are never typed. The
commit is given where the copy that ran was no clean checkout.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from _suite_results import result_path, whole
from _timing import write_json

FILES = {
    "crf": "bench_crf",
    "aspp": "bench_aspp",
    "conv": "bench_conv",
    "e2e": "bench_e2e",
    "s2b": "bench_space_to_batch",
    "permutohedral": "bench_permutohedral",
    "variants": "bench_variants",
}


def read(folder: Path, commit: str | None) -> dict[str, dict]:
    """Raw results by benchmark, without the paths of the machine that they were written on."""
    raw = {}
    for stem, name in FILES.items():
        path = folder / f"{stem}.json"
        if path.exists():
            raw[name] = json.loads(path.read_text())
            raw[name].get("arguments", {}).pop("json", None)
            raw[name]["machine"]["commit"] = commit or raw[name]["machine"]["commit"]
    if not raw:
        raise SystemExit(f"{folder}: has none of {', '.join(f'{stem}.json' for stem in FILES)}")
    return raw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commit", help="default: as the results say")
    parser.add_argument("--driver", required=True, help="version of the GPU's")
    parser.add_argument("--json", type=Path, help="default: benchmarks/results/nvidia-<gpu>.json")
    args = parser.parse_args()
    raw = read(args.folder, args.commit)
    machine = next(iter(raw.values()))["machine"] | {"driver": args.driver}
    for key in ("threads", "load_1min"):  # of one benchmark alone
        machine.pop(key, None)
    path = args.json or result_path(machine["gpu"])
    write_json(path, whole(machine, raw, []))
    print(f"{path}: written")


if __name__ == "__main__":
    main()
