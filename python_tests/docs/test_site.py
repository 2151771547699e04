"""The documentation site: built strictly, every public name and page in it, no broken link."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")
griffe = pytest.importorskip("griffe")
yaml = pytest.importorskip("yaml")

import deeplab_native
from python_tests.docs import names
from python_tests.docs.documents import ROOT
from python_tests.docs.site_pages import Site, build

# What users do not import: the commands, and the demonstration
NOT_IN_THE_REFERENCE = ("cli", "demo")
PACKAGE = deeplab_native.__name__


@pytest.fixture(scope="module")
def package():
    """As the documentation sees it: the sources, of which nothing is imported."""
    return griffe.load(PACKAGE, search_paths=[names.ROOT.parent], resolve_aliases=True)


def public_objects(package) -> dict[str, str]:
    """Where each public name is documented: what the package, and modules, list or define.

    A module further down is public where it lists its names; `jobs.refine` is a module as well as
    the function of it that `jobs` lists.
    """
    found = {f"{PACKAGE}.{n}": f"{PACKAGE}.{home}.{n}" for n, home in deeplab_native._HOMES.items()}
    for name in filter(names.is_public, names.modules()):
        below = name.split(".")[1:]
        if not below or below[0] in NOT_IN_THE_REFERENCE:
            continue
        module = package[".".join(below)]
        if len(below) > 1 and module.exports is None:
            continue
        for member in module.exports or _defined(module):
            one = module[member]
            if one.is_module and member in one.members:
                one = one[member]
            if not one.is_module:
                found[f"{name}.{member}"] = one.path
    return found


def _anchors(package, name: str, path: str) -> set[str]:
    """Where a name may stand: by itself, where it is defined, in its package's list."""
    parts = path.split(".")
    home = package[".".join(parts[1:])].canonical_path
    return {name, path, home, ".".join([*parts[:2], parts[-1]])}


def _defined(module) -> list[str]:
    here = {name: one for name, one in module.members.items() if not one.is_alias}
    return [n for n, one in here.items() if n[0] != "_" and (one.is_function or one.is_class)]


def test_site(site, package):
    """No link is broken, nothing is loaded from elsewhere, and every public name has its place."""
    assert site.problems() == []
    written = {p.relative_to(ROOT / "docs").with_suffix("") for p in (ROOT / "docs").rglob("*.md")}
    pages = {str(path).removesuffix("index").rstrip("/") for path in written}
    assert pages == {name.removesuffix("index.html").rstrip("/") for name in site.pages}
    ids = set[str]().union(*(p.ids for n, p in site.pages.items() if n.startswith("reference/")))
    public = public_objects(package)
    assert len(public) > 150
    assert [name for name, path in public.items() if not ids & _anchors(package, name, path)] == []
    linked = site.pages["reference/index.html"].links
    assert {f"{name}/" for name in deeplab_native._MODULES} <= set(linked)
    text = (ROOT / "docs/reference/index.md").read_text()
    assert [n for n in deeplab_native._HOMES if f"[`{n}`][{PACKAGE}.{n}]" not in text] == []


PLANTED = {
    "index.md": """# Planted
[a page](page.md), [no page](nowhere.md), [an anchor](page.md#here), [no anchor](page.md#there),
[of the repository](../LICENSE), [nothing of it](../LICENCE), [page.md](page.md)
""",
    "page.md": "# A page\n## Here\nText:\n- no list\n",
    "lost.md": "# In no navigation\n",
}


def plant(folder: Path, pages: dict[str, str], repository: str = "") -> Path:
    """The configuration of a small site with our settings, but without the reference."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    config |= {"nav": [{"Start": "index.md"}, {"Its name": "page.md"}], "plugins": []}
    config["hooks"] = [str(ROOT / hook) for hook in config["hooks"]]
    config["extra"]["repository"] = repository
    (folder / "docs").mkdir()
    for name, text in pages.items():
        (folder / "docs" / name).write_text(text)
    (folder / "LICENSE").write_text("")
    shutil.copy(ROOT / "docs/site.css", folder / "docs")
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(config))
    return folder / "mkdocs.yml"


def test_what_is_wrong_fails(tmp_path):
    done = build(tmp_path / "site", plant(tmp_path, PLANTED))
    assert done.returncode != 0
    for said in ("nowhere.md", "#there", "../LICENCE", "lost.md"):
        assert re.search(rf"WARNING.*{re.escape(said)}|- {said}", done.stderr), done.stderr
    assert "with 4 warnings" in done.stdout + done.stderr


@pytest.mark.parametrize("repository", ["", "https://host/owner/name"])
def test_links_of_the_repository(tmp_path, repository):
    """They lead to its address where there is one; a page is called as in the navigation."""
    text = PLANTED["index.md"].replace("[no page](nowhere.md), ", "").replace("#there", "#here")
    pages = {"index.md": text.replace(" [nothing of it](../LICENCE),", "")}
    config = plant(tmp_path, pages | {"page.md": PLANTED["page.md"]}, repository)
    done = build(tmp_path / "site", config)
    assert done.returncode == 0, done.stderr
    site = Site(tmp_path / "site")
    html = (tmp_path / "site/index.html").read_text()
    if repository:
        assert "https://host/owner/name/blob/main/LICENSE" in site.pages["index.html"].links
    else:
        assert '<span title="LICENSE">of the repository</span>' in html
    assert '<a href="page/">Its name</a>' in html
    (problem,) = site.problems()
    assert problem.startswith("page/index.html: not read as Markdown") and "no list" in problem


def test_what_is_wrong_in_a_page_is_found(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<a href="a/#x">1</a><a href="a/#y">2</a><a href="b/">3</a><img src="https://host/p.png">'
        '<a href="../out">4</a><p>text <code>\n- code</code></p><p>text\n| a | b |</p>'
    )
    (tmp_path / "a/index.html").write_text('<h1 id="x">A</h1><a href="..">up</a>')
    assert Site(tmp_path).problems() == [
        "index.html: a/#y: no such anchor",
        "index.html: b/: no such file",
        "index.html: ../out: no such file",
        "index.html: https://host/p.png: loaded from another server",
        "index.html: not read as Markdown: 'text\\n| a | b |'",
    ]
