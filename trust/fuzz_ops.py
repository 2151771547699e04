"""Every public op, and the drop-in for pydensecrf, with arguments that hypothesis makes up.

    python -m trust.fuzz_ops                          # 10,000 examples of each: about an hour
    python -m trust.fuzz_ops aspp refine --examples 500
    python -m trust.fuzz_ops --seconds 30             # at most so long for each: 25 minutes

For shapes (empty ones too), strides, dtypes, values up to infinities and NaN, arguments that share
memory, read-only and big-endian arrays, numbers of every kind: the result is the reference's, its
bits are the same the second time, no argument was written to; or there is an error that names the
argument. Each op runs in a process of its own: a crash or a hang is reported with its example.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import resource
import secrets
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .record import record

BATCH = 200  # examples that hypothesis plans at once
MEMORY = 6 << 30  # bytes that a process may take beyond what it has at its start
HANG = 300.0  # seconds without a next example


def worker(name: str, examples: int, seconds: float, seed: int, said: Path) -> dict[str, Any]:
    """Tries one property in this process; what came of it."""
    from .properties import every, progress

    faulthandler.enable()
    progress.to(str(said))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    start, failure, planned = time.monotonic(), None, 0
    while planned < examples and time.monotonic() - start < seconds and failure is None:
        batch = min(BATCH, examples - planned)
        try:
            every.run(name, batch, random_seed=seed + planned)
        except BaseException as error:
            failure = describe(error)
        planned += batch
    return {
        "executions": progress.COUNTS["executions"],
        "refused": progress.COUNTS["refused"],
        "seconds": round(time.monotonic() - start, 1),
        "failure": failure,
    }


Work = Callable[[str, int, float, int, Path], dict[str, Any]]


def _write(work: Work, result: Path, *how: Any) -> None:
    warnings.simplefilter("ignore")  # torch's of complex numbers, NumPy's of overflows
    result.write_text(json.dumps(work(*how)))


def describe(error: BaseException) -> str:
    """Its message, and the example that hypothesis notes; of several errors all."""
    parts = getattr(error, "exceptions", None) or [error]
    return "\n".join(
        "\n".join([f"{type(one).__name__}: {one}", *getattr(one, "__notes__", [])]) for one in parts
    )


def supervise(
    name: str, examples: int, seconds: float, seed: int, *, work: Work = worker
) -> dict[str, Any]:
    """Runs a worker in a process of its own, and ends one that hangs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trust.properties.every"])
    with tempfile.TemporaryDirectory() as folder:
        said, result = Path(folder, "now"), Path(folder, "result")
        said.touch()
        how = work, result, name, examples, seconds, seed, said
        process = context.Process(target=_write, args=how)
        process.start()
        last, since = "", time.monotonic()
        while process.exitcode is None:
            process.join(1.0)
            now = said.read_text(errors="replace")
            if now != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > HANG and process.exitcode is None:
                process.kill()
                process.join()
                return _broken("hang", said)
        if process.exitcode != 0 or not result.exists():
            return _broken("crash", said)
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def _broken(how: str, said: Path) -> dict[str, Any]:
    text = said.read_text(errors="replace")
    count, _, example = text.partition("\n")
    return {
        "executions": int(count or 0),
        "refused": 0,
        "seconds": 0.0,
        "failure": f"{how}: {example}",
    }


def summary(found: dict[str, dict[str, Any]], seed: int, peer: bool) -> dict[str, Any]:
    """Figures of all ops."""
    failures = [one["failure"] for one in found.values() if one["failure"]]
    return {
        "executions": sum(one["executions"] for one in found.values()),
        "refused": sum(one["refused"] for one in found.values()),
        "failures": len(failures),
        "crashes": sum(text.startswith("crash: ") for text in failures),
        "hangs": sum(text.startswith("hang: ") for text in failures),
        "properties": len(found),
        "seconds": round(sum(one["seconds"] for one in found.values())),
        "seed": seed,
        "beside_pydensecrf": peer,
        "ops": found,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m trust.fuzz_ops",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", help="properties; none: all of them")
    parser.add_argument("--examples", type=int, default=10_000, help="of each property")
    parser.add_argument("--seconds", type=float, default=1e9, help="at most, for each property")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    parser.add_argument("--peer", default="", help="a folder with pydensecrf, to compare with")
    parser.add_argument("--no-record", action="store_true", help="write no result")
    given = parser.parse_args(arguments)
    if given.peer:
        sys.path.append(given.peer)
    from .properties import every

    names = given.names or every.NAMES
    if unknown := set(names) - set(every.NAMES):
        parser.error(
            f"{', '.join(sorted(unknown))}: no property; there are {', '.join(every.NAMES)}"
        )
    print(f"seed {given.seed}", file=sys.stderr)
    all_found: dict[str, dict[str, Any]] = {}
    for name in names:
        one = supervise(name, given.examples, given.seconds, given.seed)
        all_found[name] = one
        print(f"{name}: {one['executions']} executions in {one['seconds']} s", file=sys.stderr)
        if one["failure"]:
            print(one["failure"], file=sys.stderr, flush=True)
    figures = summary(all_found, given.seed, bool(given.peer))
    if not given.no_record:
        command = f"python -m trust.fuzz_ops --examples {given.examples} --seed {given.seed}"
        if given.seconds < 1e9:
            command += f" --seconds {given.seconds:g}"
        record("fuzz_ops", figures, passed=not figures["failures"], command=command)
    return 1 if figures["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
