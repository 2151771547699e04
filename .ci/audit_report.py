"""What pip-audit found, told from what it could not look up.

python .ci/audit_report.py FOUND.json LOG [--strict]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple


class Found(NamedTuple):
    checked: int
    vulnerable: list[str]  # a line each
    unchecked: dict[str, str]  # why not


def read(text: str) -> Found | None:
    """None where it is no report: pip-audit did not come to its end."""
    try:
        packages = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return None
    unchecked = {p["name"]: p["skip_reason"] for p in packages if "skip_reason" in p}
    vulnerable = [
        f"{p['name']} {p['version']}: {v['id']}, mended in {', '.join(v['fix_versions']) or 'none'}"
        for p in packages
        for v in p.get("vulns", ())
    ]
    return Found(len(packages) - len(unchecked), vulnerable, unchecked)


def main() -> int:
    report, log, *options = sys.argv[1:]
    found = read(Path(report).read_text())
    if found is None:
        lines = Path(log).read_text().strip().splitlines() or ["it said nothing"]
        print(f"!!! NOT CHECKED: pip-audit did not end: {lines[-1]}", file=sys.stderr)
        return "--strict" in options
    for line in found.vulnerable:
        print(f"vulnerable: {line}")
    print(f"{found.checked} packages looked up, {len(found.vulnerable)} vulnerabilities")
    if found.unchecked:
        name, why = next(iter(found.unchecked.items()))
        print(
            f"!!! NOT CHECKED: {len(found.unchecked)} packages, the first {name}: {why}",
            file=sys.stderr,
        )
    return bool(found.vulnerable) or (bool(found.unchecked) and "--strict" in options)


if __name__ == "__main__":
    sys.exit(main())
