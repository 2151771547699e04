"""What is installed, by whom it is pinned, and what a release says of it."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from types import ModuleType

import pytest

import deeplab_native

pytest.importorskip("packaging")
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
OF_DEVELOPMENT = {"dev", "test"}  # extras whose packages no user's code imports
# imported, and installed by what is named: (package, whose it is)
WITH_OTHERS = {
    "contourpy": "matplotlib",
    "fastapi": "gradio",
    "uvicorn": "gradio",
    "fsspec": "ray[data]",
    "pyarrow": "ray[data]",
}
OF_IMPORT = {"pil": "pillow", "yaml": "pyyaml"}  # names of packages that are imported otherwise


def load(name: str) -> ModuleType:
    """A script of .ci."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def declared() -> dict[str, list[Requirement]]:
    """Requirements of the package, "", and of its extras."""
    found = {"": re.search(r"^dependencies = \[(.*?)^\]", PROJECT, re.M | re.S)[1]}
    extras = re.search(r"^\[project.optional-dependencies\]\n(.*?)^\[", PROJECT, re.M | re.S)[1]
    found |= dict(re.findall(r"^(\w+) = \[(.*?)\]\n", extras, re.M | re.S))
    named = {e: re.findall(r'"([\w-]+(?:\[.*?\])?[^"]*)"', text) for e, text in found.items()}
    return {extra: [Requirement(one) for one in texts] for extra, texts in named.items()}


def names(requirements: list[Requirement]) -> set[str]:
    return {canonicalize_name(r.name) for r in requirements}


def imported() -> dict[str, str]:
    """Package to a file that imports it, where it runs."""
    found: dict[str, str] = {}
    for path in Path(deeplab_native.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        unrun = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for statement in node.body
            for inner in ast.walk(statement)
        }
        for node in ast.walk(tree):
            if id(node) in unrun:
                continue
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            for module in modules:
                top = module.partition(".")[0]
                if top not in {*sys.stdlib_module_names, "deeplab_native"}:
                    found[OF_IMPORT.get(top.lower(), canonicalize_name(top))] = str(path)
    return found


def test_every_dependency_has_a_reason():
    table = PAGE.partition("## What it needs, and why")[2].partition("## ")[0]
    said = {canonicalize_name(name) for name in re.findall(r"^\| `([\w-]+)` \| [`\w]", table, re.M)}
    needed = [names(r) for extra, r in declared().items() if extra not in OF_DEVELOPMENT]
    assert said == set.union(*needed)
    assert len(declared()[""]) == 8 and len(declared()) > 8
    for package, parent in WITH_OTHERS.items():
        (row,) = re.findall(rf"^\| `{parent.partition('[')[0]}` \|.*", table, re.M)
        assert f"`{package}`" in row


def test_nothing_is_imported_that_is_not_declared():
    of_users = [names(r) for extra, r in declared().items() if extra not in OF_DEVELOPMENT]
    there = imported()
    assert len(there) > 12
    assert {n: there[n] for n in there.keys() - set.union(*of_users) - WITH_OTHERS.keys()} == {}


@pytest.mark.parametrize(("package", "parent"), WITH_OTHERS.items())
def test_what_comes_with_others_does(package, parent):
    wanted = Requirement(parent)
    pytest.importorskip(wanted.name)
    extra = next(iter(wanted.extras), "")
    needs = map(Requirement, requires(wanted.name))
    assert package in names(
        [r for r in needs if not r.marker or r.marker.evaluate({"extra": extra})]
    )


def test_all_that_tests_install_is_pinned():
    pins = load("pin").pinned()
    everything = declared()
    todo = [*everything[""], *everything["test"], *everything["docs"], *everything["ray"]]
    todo += [*everything["web"], *map(Requirement, ["scikit-build-core>=0.10", "pybind11>=2.13"])]
    for one in todo:
        name = canonicalize_name(one.name)
        if name != "deeplab-native":
            assert one.specifier.contains(pins[name]), f"{one}, pinned is {pins[name]}"
    readme = re.search(r"pip install torch==(\S+) '\.\[test\]' && pytest", README)
    assert pins["torch"] == readme[1]
    assert readme[0] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_another_version_and_a_newcomer_are_found():
    problems = load("pin").problems
    assert problems({"a": "1", "b": "2"}, {"a": "1", "b": "2", "c": "3"}) == []
    assert problems({"a": "1", "b": "2"}, {"a": "2"}) == ["a 1: pinned is 2", "b 2: not pinned"]


AUDITED = [{"name": "a", "version": "1", "vulns": []}]
SKIPPED = {"name": "b", "skip_reason": "not found on PyPI"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "X-1", "fix_versions": ["3"]}]}


@pytest.mark.parametrize(
    ("report", "strict", "code", "said"),
    [
        (AUDITED, True, 0, "1 packages looked up, 0 vulnerabilities"),
        ([*AUDITED, SKIPPED], False, 0, "!!! NOT CHECKED: 1 packages, the first b: not found"),
        ([*AUDITED, SKIPPED], True, 1, "!!! NOT CHECKED: 1 packages, the first b: not found"),
        ([BAD], False, 1, "vulnerable: c 2: X-1, mended in 3"),
        (None, False, 0, "!!! NOT CHECKED: pip-audit did not end: no network"),
        (None, True, 1, "!!! NOT CHECKED: pip-audit did not end: no network"),
    ],
)
def test_what_was_not_looked_up_is_not_called_clean(report, strict, code, said, tmp_path):
    """pip-audit itself says "No known vulnerabilities found" of packages that it skipped."""
    (tmp_path / "log").write_text("first\nno network\n")
    text = "" if report is None else json.dumps({"dependencies": report, "fixes": []})
    (tmp_path / "found.json").write_text(text)
    options = ["--strict"] * strict
    script = ROOT / ".ci" / "audit_report.py"
    line = [sys.executable, script, tmp_path / "found.json", tmp_path / "log", *options]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_the_audit_fails_where_nothing_was_looked_up():
    workflow = (ROOT / ".github" / "workflows" / "audit.yml").read_text(encoding="utf-8")
    assert ".ci/audit --strict" in workflow and "schedule:" in workflow
    assert ".ci/audit\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert os.access(ROOT / ".ci" / "audit", os.X_OK)


def test_the_bill_of_materials_has_what_is_compiled_in():
    sbom = load("sbom")
    net = deeplab_native.weights.EMBEDDED
    built = {"pybind11": "3.1", "cuda": "", "for": "", "net": str(net)}
    assert [c["name"] for c in sbom.compiled_in(built)] == ["pybind11", net.name]
    built |= {"cuda": "13.0.88", "for": "90"}
    parts = sbom.compiled_in(built)
    assert [c["version"] for c in parts[:2]] == ["3.1", "13.0.88"]
    document = {
        "components": [{"name": "deeplab_native", "bom-ref": "own"}, {"name": "x", "bom-ref": "x"}],
        "dependencies": [{"ref": "own", "dependsOn": ["x"]}, {"ref": "x"}],
    }
    found = sbom.with_compiled_in(document, parts)
    own = next(d for d in found["dependencies"] if d["ref"] == "own")
    assert own["dependsOn"] == sorted(["x", *(part["bom-ref"] for part in parts)])
    refs = [c["bom-ref"] for c in found["components"]]
    assert len(refs) == len(set(refs)) == 5
    assert {d["ref"] for d in found["dependencies"]} == set(refs)


def test_a_release_has_one():
    """And what the workflows install is pinned."""
    workflows = ROOT / ".github" / "workflows"
    assert ".ci/sbom.py" in (workflows / "wheels.yml").read_text(encoding="utf-8")
    for path in sorted(workflows.glob("*.yml")):
        for line in re.findall(r"pip install (.+)", path.read_text(encoding="utf-8")):
            pinned = "-c .ci/constraints.txt" in line or re.fullmatch(r"[\w-]+==[\d.]+", line)
            own = "dist/" in line or line.startswith("--extra-index-url")  # what was built there
            assert pinned or own, f"{path.name}: {line}"


def test_the_native_module_says_what_is_within():
    from deeplab_native import _C

    assert re.fullmatch(r"\d+\.\d+\.\d+\w*", _C.pybind11_version)
    assert bool(_C.cuda_version) is _C.has_cuda


def test_versions_are_said_alike():
    """README, pyproject, the page on installing, and what .ci/versions tests."""
    script = (ROOT / ".ci" / "versions").read_text(encoding="utf-8")
    tested = dict(re.findall(r"(oldest_\w+|newest_\w+)=([\d.]+)", script))
    others = re.search(r"other_pythons=\((.*?)\)", script)[1].split()
    minor = {name: ".".join(version.split(".")[:2]) for name, version in tested.items()}
    oldest, newest = minor["oldest_torch"], minor["newest_torch"]
    assert f"torch {oldest} to {newest}" in README and f"| torch | {oldest} to {newest} |" in PAGE
    assert f"NumPy {minor['oldest_numpy']} and 2" in README
    assert f"| NumPy | {minor['oldest_numpy']} and 2 |" in PAGE
    assert f"torch>={oldest}" in PROJECT and f"numpy>={minor['oldest_numpy']}" in PROJECT
    python = minor["oldest_python"]
    assert f'requires-python = ">={python}"' in PROJECT
    assert (
        f"| Python | {python} and 3.11, the whole; {others[0]} to {others[-1]}, the drop-in" in PAGE
    )
    assert f"on Python {python} and 3.11" in " ".join(README.split())
    classified = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert classified[:2] == [python, "3.11"] and set(classified[2:]) <= set(others)
