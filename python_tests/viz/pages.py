"""Reads a report as a browser does, and says what is wrong with it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "link", "img"}  # without an end
_LOADS = {"src", "href", "srcset", "action", "data", "poster", "background"}
HOSTILE = """<script>alert(1)</script>"><img src=x onerror="alert(2)">'&amp;{{ 7 * 7 }}"""


class Page(HTMLParser):
    """A file's text, which must be well formed and load nothing.

    Attributes:
        text: all that is read, without styles.
        tables: their rows of cells.
        headings: of the sections.
        images: (description, source).
    """

    def __init__(self, file: Path | str) -> None:
        super().__init__(convert_charrefs=True)
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.images: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(file if isinstance(file, str) else file.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "iframe", "object", "embed", "base")
        found = dict(attributes)
        assert not [name for name in found if name.startswith("on")]
        for name in _LOADS & found.keys():
            assert found[name].startswith("data:"), (tag, name, found[name][:80])
        assert "url(" not in (found.get("style") or "")
        if tag == "img":
            self.images.append((found["alt"], found["src"]))
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, words):
        if "style" in self._open:
            assert not re.search(r"url\(|@import", words)
            return
        self.words.append(words)
        if self._open[-1:] == ["h2"]:
            self.headings[-1] += words
        elif self._open[-1:] in (["th"], ["td"]):
            self.tables[-1][-1][-1] += words

    def table(self, first: str) -> dict[str, list[str]]:
        """Of the table whose first column has this head: row -> the other cells."""
        (rows,) = [rows for rows in self.tables if rows[0][0] == first]
        return {row[0]: row[1:] for row in rows}


def without_date(file: Path) -> str:
    """The text of a report but for when it was made."""
    return re.sub(r"<time .*?</time>", "", file.read_text(encoding="utf-8"))
