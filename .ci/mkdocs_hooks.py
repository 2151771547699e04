"""Links of pages that are files of the repository, too.

There `../CONTRIBUTING.md` is a good link. On the site it leads to the address of the repository
(`extra: repository:` in mkdocs.yml), and is plain text while there is none. A missing file is
a warning, as a missing page is to MkDocs. A link that is named as its page's file, `files.md`, is
called on the site as the page is in the navigation.
"""

from __future__ import annotations

import logging
import posixpath
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor

_log = logging.getLogger("mkdocs.hooks.repository_links")  # below mkdocs: --strict counts it


class RepositoryLinks(Extension):
    """Turns links that leave docs/ into links to the repository, or into text."""

    def __init__(self, root: Path, docs: Path, repository: str) -> None:
        super().__init__()
        self.root, self.docs, self.repository = root, docs, repository.rstrip("/")
        self.page = ""  # under docs/
        self.titles: dict[str, str] = {}  # by page

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 (Markdown's name)
        """Runs after the links of the text are elements (20) and before MkDocs' own look (0)."""
        md.treeprocessors.register(_Links(md, self), "repository_links", 10)

    def resolve(self, href: str) -> Path | None:
        """The file outside of docs/ that a link of the page means, or None."""
        path = href.partition("#")[0]
        if not path.startswith("../"):
            return None
        folder = self.docs / posixpath.dirname(self.page)
        target = Path(posixpath.normpath((folder / path).as_posix()))
        return None if target.is_relative_to(self.docs) else target


class _Links(Treeprocessor):
    def __init__(self, md: Markdown, links: RepositoryLinks) -> None:
        super().__init__(md)
        self.links = links

    def run(self, root: Element) -> None:
        for element in root.iter("a"):
            href = element.get("href", "")
            target = self.links.resolve(href)
            if target is None:
                named = (element.text or "").endswith(posixpath.basename(href))
                if named and href in self.links.titles:
                    element.text = self.links.titles[href]
                continue
            path = target.relative_to(self.links.root) if self._exists(target) else None
            if path is None:
                _log.warning("%s: no such file in the repository: %s", self.links.page, href)
            if path and self.links.repository:
                kind = "tree" if target.is_dir() else "blob"
                _, mark, anchor = href.partition("#")
                address = f"{self.links.repository}/{kind}/main/{path.as_posix()}{mark}{anchor}"
                element.set("href", address)
            else:
                element.tag = "span"
                del element.attrib["href"]
                element.set("title", str(path))

    def _exists(self, target: Path) -> bool:
        return target.is_relative_to(self.links.root) and target.exists()


def on_config(config: Any) -> Any:
    """Adds the extension; MkDocs calls this once for each build."""
    file = Path(config.config_file_path).parent
    repository = config.extra.get("repository") or ""
    config.markdown_extensions.append(RepositoryLinks(file, Path(config.docs_dir), repository))
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Says which page is read next, once what pages are called is known."""
    for extension in config.markdown_extensions:
        if isinstance(extension, RepositoryLinks):
            extension.page = page.file.src_uri
            pages = [file.page for file in files.documentation_pages()]
            titles = {p.file.src_uri: p.title for p in pages if p and p.title}
            folder = posixpath.dirname(extension.page) or "."
            extension.titles = {posixpath.relpath(uri, folder): t for uri, t in titles.items()}
    return markdown
