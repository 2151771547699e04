"""Whether a source archive has what a build needs, and nothing that only the repository needs.

python .ci/source_archive.py dist/deeplab_native-0.1.0.tar.gz
"""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {
    "CHANGELOG.md",
    "CITATION.cff",
    "CMakeLists.txt",
    "LICENSE",
    "README.md",
    "pyproject.toml",
}
FOLDERS = ("csrc", "src")  # with all that is in them
MOST_BYTES = 6 << 20  # the embedded net is 3.8 MB of it


def sources() -> set[str]:
    """Every file of the folders that is no product of a build."""
    files = {path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()}
    built = {path for path in files if path.suffix in (".so", ".pyc")}
    return {path.relative_to(ROOT).as_posix() for path in files - built}


def problems(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        files = {name.partition("/")[2] for name in tar.getnames()}
    known = {*NEEDED, "CONTRIBUTING.md", "PKG-INFO", ".gitignore"}
    surplus = sorted(f for f in files if f not in known and f.split("/")[0] not in FOLDERS)
    found = [f"is missing: {name}" for name in sorted((sources() | NEEDED) - files)]
    found += [f"only the repository needs it: {name}" for name in surplus]
    size = archive.stat().st_size
    if size > MOST_BYTES:
        found.append(f"{size} bytes are more than {MOST_BYTES}")
    return found


def main() -> int:
    (archive,) = map(Path, sys.argv[1:])
    found = problems(archive)
    print("\n".join(found) or f"{archive.name}: {archive.stat().st_size / 1e6:.1f} MB, complete")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
