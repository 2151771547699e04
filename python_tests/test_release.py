"""What a release is made of agrees with itself: versions, authors, workflows, the recipe."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
RECIPE = yaml.safe_load((ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VERSION = re.search(r'^version = "(.+)"', PROJECT, re.M)[1]


def requirements(block: str) -> set[str]:
    """Names of a list in pyproject.toml."""
    text = re.search(rf"^{block} = \[(.*?)^\]", PROJECT, re.M | re.S)[1]
    return set(re.findall(r'^\s*"([\w-]+)', text, re.M))


def test_one_version():
    assert CITATION["version"] == VERSION
    assert RECIPE["context"]["version"] == VERSION
    first = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert first[1] == VERSION


def test_the_changelog_is_kept_in_its_form():
    """https://keepachangelog.com: newest first, known headings, a date or that it is not yet."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)", text, re.M)
    assert all(
        re.fullmatch(r"\[\d+\.\d+\.\d+\] - (unreleased|\d{4}-\d\d-\d\d)", r) for r in releases
    )
    numbers = [tuple(map(int, re.findall(r"\d+", r.partition("]")[0]))) for r in releases]
    assert numbers == sorted(numbers, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert {*re.findall(r"^### (.+)", text, re.M)} <= kinds


def test_authors_are_those_of_the_licence():
    (author,) = CITATION["authors"]
    name = author["name"]
    assert f"Copyright (c) 2026 {name}" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert f'authors = [{{ name = "{name}" }}]' in PROJECT


def test_the_recipe_needs_what_the_package_needs():
    conda = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
    run = {conda.get(name, name) for name in (r.split()[0] for r in RECIPE["requirements"]["run"])}
    assert run - {"python"} == requirements("dependencies")
    least = {r.partition(" ")[2] for r in RECIPE["requirements"]["run"] if r.startswith("python ")}
    assert least == {metadata("deeplab_native")["Requires-Python"]}


def test_the_workflow_is_ci_run():
    """No check is only there, or only in .ci/run."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    (job,) = jobs.values()
    assert job["steps"][-1] == {"run": "bash .ci/run"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned(path):
    """By the commit: a tag can be moved. And no workflow may write to the repository."""
    text = path.read_text(encoding="utf-8")
    used = re.findall(r"uses: (\S+)(?: # v[\d.]+)?$", text, re.M)
    assert used and len(used) == text.count("uses:")
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", one) for one in used)
    assert yaml.safe_load(text)["permissions"] == {"contents": "read"}


def test_the_docs_workflow_installs_the_extra():
    """Without the package, which would be compiled for it."""
    extra = re.search(r"^docs = \[(.*)\]", PROJECT, re.M)[1]
    workflow = (ROOT / ".github/workflows/docs.yml").read_text(encoding="utf-8")
    (line,) = re.findall(r"run: pip install (.*)", workflow)
    assert re.findall(r"'(.+?)'", line) == re.findall(r'"(.+?)"', extra)
