"""Names of the package in its public docstrings and in documents that nobody could import."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import deeplab_native
from python_tests.docs.documents import spans

ROOT = Path(deeplab_native.__file__).parent
PACKAGE = deeplab_native.__name__
OTHERS = {"PyTorchModelHubMixin", "NetParameter", "Pool"}  # of huggingface_hub, Caffe, Python
_NAME = re.compile(r"([A-Za-z_]\w*(?:\.\w+)*)(?:\(.*\))?")
_Definition = ast.ClassDef | ast.FunctionDef


def modules() -> Iterator[str]:
    yield PACKAGE
    for info in pkgutil.walk_packages([str(ROOT)], f"{PACKAGE}."):
        if not info.name.split(".")[1].startswith(("_C", "cli")):
            yield info.name


def is_public(module: str) -> bool:
    return not any(part.startswith("_") for part in module.split(".")[1:])


def _tree(module: str) -> ast.Module:
    """Read, not imported: a module may need an optional package."""
    spec = importlib.util.find_spec(module)
    return ast.parse(Path(spec.origin).read_text())


def _listed(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return None


def reachable() -> set[str]:
    """What users can import: the public modules, what these list in `__all__`, or define."""
    names: set[str] = set()
    for module in filter(is_public, modules()):
        names.add(module.rpartition(".")[2])
        tree = _tree(module)
        listed = deeplab_native.__all__ if module == PACKAGE else _listed(tree)
        if listed is None:
            listed = [name for name in _definitions(tree) if not name.startswith("_")]
        names.update(listed)
    return names


def _definitions(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, _Definition):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def defined() -> set[str]:
    """Classes, functions and constants of all modules, also of private ones."""
    return {name for module in modules() for name in _definitions(_tree(module))}


def docstrings() -> Iterator[tuple[str, str, set[str]]]:
    """(where, text, the names that the signature explains) of all that is public."""
    for module in filter(is_public, modules()):
        tree = _tree(module)
        yield module, ast.get_docstring(tree) or "", set()
        yield from _within(tree, module, set())


def _within(node: ast.Module | _Definition, where: str, known: set[str]):
    for child in node.body:
        if not isinstance(child, _Definition) or (
            child.name.startswith("_") and child.name != "__init__"
        ):
            continue
        own = known | {a.arg for a in ast.walk(child) if isinstance(a, ast.arg)}
        if isinstance(child, ast.ClassDef):
            own |= {a.attr for a in ast.walk(child) if isinstance(a, ast.Attribute)}
            own |= {n.target.id for n in child.body if isinstance(n, ast.AnnAssign)}
            own |= {n.name for n in child.body if isinstance(n, ast.FunctionDef)}
        yield f"{where}.{child.name}", ast.get_docstring(child) or "", own
        if isinstance(child, ast.ClassDef):
            yield from _within(child, f"{where}.{child.name}", own)


def hidden(text: str, known: set[str] = frozenset()) -> list[str]:
    """Names in backticks that nobody can import, though the package defines them, or no one does.

    That are classes, functions and constants of ours; classes of nobody; and `models.predict` and
    the like, which begin with a module of the package.
    """
    found = []
    for span in spans(text):
        match = _NAME.fullmatch(span)
        if match is None:
            continue
        first, *rest = match[1].split(".")
        if rest:
            modules_ = set(deeplab_native._MODULES) - {"data"}  # also a part of configurations
            if first in modules_ and not _resolves(match[1]):
                found.append(span)
        elif first not in _REACHABLE | known | OTHERS and not hasattr(torch.nn.Module, first):
            is_class = re.fullmatch(r"[A-Z]+\w*[a-z]\w*", first)
            # a word alone, as `energies`, may be a value of an option
            is_ours = first in _DEFINED and (is_class or "_" in first or span.endswith(")"))
            if is_ours or (is_class and not _of_others(first)):
                found.append(span)
    return found


def _resolves(dotted: str) -> bool:
    try:
        pkgutil.resolve_name(f"{PACKAGE}.{dotted}")
    except (ImportError, AttributeError):
        return dotted.endswith((".py", ".json", ".csv", ".md"))  # a file
    return True


def _of_others(name: str) -> bool:
    return any(hasattr(owner, name) for owner in (builtins, torch, torch.nn, torch.autograd, np))


_DEFINED, _REACHABLE = defined(), reachable()
