"""The sentences of README.md, each of which a promise covers, or of which it is said why not."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from .promises import FOLDER, ROOT, Section

# sentences that promise nothing, by the reason; beside the promises, but no section of the page
NO_PROMISES = FOLDER.parent / "no_promises.yaml"


def plain(markdown: str) -> str:
    """Its words: of links the text, without marks of emphasis or code, in one line."""
    text = re.sub(r"!?\[([^]]*)\](?:\([^)]*\))?", r"\1", markdown)
    return " ".join(re.sub(r"[*`]", "", text).split())


def sentences(path: Path = ROOT / "README.md") -> list[str]:
    """What ends with a full stop, a colon or a semicolon, and rows of tables, in plain words.

    Without blocks of code, and without the tables that scripts write.
    """
    text = path.read_text()
    text = re.sub(r"<!-- benchmarks/.*?<!-- end -->", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)
    found = []
    for block in re.split(r"\n\s*\n", text):
        lines = [line.strip() for line in block.strip().splitlines()]
        prose = [line for line in lines if not line.startswith(("|", "#", "!["))]
        rows = [line for line in lines if line.startswith("|")][2:]
        found += [plain(row.strip("| ").replace("|", " | ")) for row in rows]
        # code marks still there: a sentence can begin with them, and an abbreviation does not end
        text = re.sub(r"\]\([^)]*\)", "]", " ".join(line.removeprefix("- ") for line in prose))
        found += [plain(s) for s in re.split(r"(?<=[.:])\s+(?=[A-Z`*\[])|;\s+", text)]
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def phrases_without_promise() -> dict[str, list[str]]:
    """Phrases of README by the reason for which they promise nothing."""
    return yaml.safe_load(NO_PROMISES.read_text())


def uncovered(sections: list[Section]) -> list[str]:
    """Sentences that no promise names, and of which nobody says that they promise nothing."""
    phrases = [p for s in sections for promise in s.promises for p in promise.readme]
    phrases += [p for listed in phrases_without_promise().values() for p in listed]
    phrases = [plain(phrase) for phrase in phrases]
    return [s for s in sentences() if not any(phrase in s for phrase in phrases)]


def unknown(sections: list[Section]) -> list[str]:
    """Phrases that are named, and that README does not have."""
    text = " ".join(sentences())
    phrases = [p for s in sections for promise in s.promises for p in promise.readme]
    phrases += [p for listed in phrases_without_promise().values() for p in listed]
    return [phrase for phrase in phrases if plain(phrase) not in text]
