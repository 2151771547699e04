"""Builds a site, and says what is wrong in it: links, outside resources, Markdown left unread."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_LOADS = {"img": "src", "script": "src", "link": "href", "source": "src", "iframe": "src"}
# a list, a table, a block or a heading that Markdown took for the text of a paragraph
_UNREAD = re.compile(r"(?:^|\n)(?:[-*] |1\. |\||```|~~~|#+ |:::|\[\^|!!! )")


def build(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    words = ["build", "--strict", "--config-file", str(config), "--site-dir", str(folder)]
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "NO_COLOR": "1"},
    )


class Page(HTMLParser):
    """Links, what is loaded, anchors, and the text of paragraphs without their code."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.paragraphs: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in _LOADS and _LOADS[tag] in values:
            self.loaded.append(values[_LOADS[tag]])
        if tag in ("p", "code"):
            self._open.append(tag)
            if tag == "p":
                self.paragraphs.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[self._open.index(tag) :]

    def handle_data(self, data: str) -> None:
        if "p" in self._open:
            self.paragraphs[-1] += "x" * len(data) if "code" in self._open else data

    @property
    def unread(self) -> list[str]:
        return [text for text in self.paragraphs if _UNREAD.search(text)]


class Site:
    """All pages of a folder; their paths are relative to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def pages(self) -> dict[str, Page]:
        paths = sorted(self.folder.rglob("*.html"))
        # 404.html is served at any address, so that its links have no place to start from
        return {str(p.relative_to(self.folder)): Page(p) for p in paths if p.name != "404.html"}

    def problems(self) -> list[str]:
        found = []
        for name, page in self.pages.items():
            for address in page.links + page.loaded:
                why = self._broken(name, address, loaded=address in page.loaded)
                found += [f"{name}: {address}: {why}"] if why else []
            found += [f"{name}: not read as Markdown: {text!r}" for text in page.unread]
        return found

    def _broken(self, page: str, address: str, *, loaded: bool) -> str:
        parts = urlsplit(address)
        if parts.scheme == "data":
            return ""
        if parts.scheme or parts.netloc:
            return "loaded from another server" if loaded else ""
        path = self.folder / page
        if parts.path:
            path = (path.parent / unquote(parts.path)).resolve()
        if path.is_dir():
            path /= "index.html"
        if not path.is_relative_to(self.folder) or not path.exists():
            return "no such file"
        anchors = self.pages.get(str(path.relative_to(self.folder)))
        if parts.fragment and anchors and unquote(parts.fragment) not in anchors.ids:
            return "no such anchor"
        return ""
