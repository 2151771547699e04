"""The layers of the package: imports go down, and nowhere in a circle."""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

import pytest

import deeplab_native
from deeplab_native import _late

# From the bottom. Names of one line do not know each other.
LAYERS = (
    ("_C",),
    ("_autograd", "_batching", "_fork"),
    ("_malloc", "_memory", "_picture_formats"),
    (
        "_errors",
        "_file_kinds",
        "_files",
        "_image_range",
        "_images",
        "_integers",
        "_late",
        "_logging",
        "_machine",
        "_native",
        "_variants",
    ),
    ("_masks", "_terminal"),
    ("_annotations",),
    ("metrics", "ops", "pydensecrf", "viz"),
    ("crf", "data", "layers"),
    ("interop", "models"),
    ("weights",),
    ("hub",),
    ("demo", "jobs", "training"),
    ("web",),
    ("",),  # the package's own __init__.py, which gives users the names of all
    ("cli",),
    ("__main__",),
)
# The drop-in stands beside: these import one another and NumPy, nothing else, so no torch.
DROP_IN = ("_C", "_image_range", "_memory", "pydensecrf")


class Import(NamedTuple):
    module: str  # the full name of who imports
    line: int
    target: str  # a module, also where a name of it is imported
    runs: bool  # False where only type checkers read it


class Source(NamedTuple):
    tree: ast.Module
    package: str  # the full name of what a leading dot means
    is_stub: bool

    @classmethod
    def read(cls, name: str, path: Path) -> "Source":
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        return cls(ast.parse(path.read_text()), package, path.suffix == ".pyi")


def modules_in(root: Path) -> dict[str, Path]:
    paths = [path for path in root.rglob("*.py*") if path.suffix in (".py", ".pyi")]
    names = [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in paths]
    return {n.removesuffix(".__init__"): path for n, path in zip(names, paths, strict=True)}


def read_imports(root: Path) -> list[Import]:
    """Every import statement of a package: at the top, in functions, for type checkers."""
    sources = {name: Source.read(name, path) for name, path in modules_in(root).items()}
    # `from .. import dense_crf` means the module from which the package has the name
    of_package = _names(sources[root.name], sources, {})
    homes = {f"{root.name}.{name}": target for name, target, _ in of_package}
    found = []
    for module, source in sources.items():
        unrun = _for_type_checkers(source.tree)
        for _, target, line in _names(source, sources, homes):
            runs = not source.is_stub and line not in unrun
            found.append(Import(module, line, target, runs))
    return found


def _names(
    source: Source, sources: dict[str, Source], homes: dict[str, str]
) -> Iterator[tuple[str, str, int]]:
    """(name, module that it is or comes from, line) of all that is imported."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), source.package)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield alias.name, full if full in sources else homes.get(full, base), node.lineno


def _for_type_checkers(tree: ast.Module) -> set[int]:
    """Lines that only type checkers read."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for line in range(statement.lineno, statement.end_lineno + 1)
    }


def room(name: str) -> str:
    """models, of deeplab_native.models.base; the stub of _C is in files _C_*, too."""
    first = f"{name}..".split(".")[1]
    return "_C" if first.startswith("_C_") else first


def forbidden(imports: list[Import]) -> list[str]:
    """What goes up or sideways, and modules without a layer."""
    modules = {i.module for i in imports}
    found = [f"{module}: has no layer" for module in sorted(modules) if room(module) not in _LAYER]
    for module, line, target, _ in imports:
        own, other = room(module), room(target)
        inside = target.split(".")[0] == module.split(".")[0]
        if inside and own != other and _LAYER.get(other, 0) >= _LAYER.get(own, len(LAYERS)):
            found.append(f"{module}:{line} imports {target}, which is not below it")
        if own in DROP_IN and (
            other not in DROP_IN if inside else target.split(".")[0] not in _DROP_IN_NEEDS
        ):
            found.append(f"{module}:{line} imports {target}: no part of the drop-in may")
    return found


_LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
_DROP_IN_NEEDS = {*sys.stdlib_module_names, "numpy"}


def circle(imports: list[Import]) -> list[str]:
    """Modules that import each other when they run, in a ring; [] where there is none.

    The import of a.b.c from outside of a.b also runs a.b, which may be what closes the ring.
    """
    graph = defaultdict(set)
    for module, _, target, runs in imports:
        parts = target.split(".")
        if runs and parts[0] == module.split(".")[0]:
            parents = {".".join(parts[:n]) for n in range(2, len(parts))}
            graph[module] |= {target} | {p for p in parents if not f"{module}.".startswith(f"{p}.")}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


PACKAGE = deeplab_native.__name__
ROOT = Path(deeplab_native.__file__).parent


@pytest.fixture(scope="module")
def imports():
    return read_imports(ROOT)


def test_imports_go_down(imports):
    assert forbidden(imports) == []


def test_no_circle(imports):
    assert len(imports) > 500
    assert circle(imports) == []


def test_what_is_needed_of_a_higher_layer_is_named_in_one_place(imports):
    """Nets are made from weights files and know their hub; nothing else reaches up."""
    assert all(callable(_late.late(name)) for name in _late.PLACES)
    users = {i.module for i in imports if i.target == f"{PACKAGE}._late"}
    assert users == {PACKAGE, f"{PACKAGE}.models.base", f"{PACKAGE}.models.registry"}
    texts = [path.read_text() for path in modules_in(ROOT).values()]
    assert {n for text in texts for n in re.findall(r'late\("(\w+)"\)', text)} == {*_late.PLACES}
    # by a name of its own, as `late` does, no other module below the commands imports anything
    by_name = {i.module for i in imports if i.target == "importlib"}
    assert {m for m in by_name if room(m) != "cli"} == {PACKAGE, f"{PACKAGE}._late"}


@pytest.mark.parametrize(
    ("name", "heavy"),
    [(PACKAGE, {"torch", "numpy", "PIL"}), (f"{PACKAGE}.pydensecrf", {"torch", "PIL"})],
)
def test_imports_of_a_fresh_process(name, heavy):
    code = f"import sys, {name}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert name in run.stdout.split()
    assert not heavy & set(run.stdout.split())


GOOD = {
    "__init__": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .ops.a import f\n",
    "ops/__init__": "",
    "ops/a": "import torch\nfrom .. import _native\nfrom . import b\n",
    "ops/b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import f\n",
    "_native": "",
    "_memory": "import os\n",
    "crf/__init__": "from .field import Field\n",
    "crf/field": "from .params import P\nfrom ..ops.a import f\n",
    "crf/params": "",
    "models/__init__": "from .. import f\n",
    "pydensecrf": "import numpy as np\nfrom ._memory import check\n",
}


@pytest.mark.parametrize(
    ("module", "text", "complaint"),
    [
        ("ops/b", "def f():\n    from ..crf import params", "planted.ops.b:2 imports planted.crf."),
        (
            "ops/b",
            "if TYPE_CHECKING:\n    import planted.crf",
            "ops.b:2 imports planted.crf, which",
        ),
        ("ops/b", "from ..metrics import iou", "ops.b:1 imports planted.metrics, which is not"),
        ("ops/b", "from .. import g", "planted.ops.b:1 imports planted, which is not below it"),
        ("ops/b", "from .. import crf", "planted.ops.b:1 imports planted.crf, which is not below"),
        ("models/x", "from ..weights import load", "imports planted.weights, which is not below"),
        ("newcomer", "import os", "planted.newcomer: has no layer"),
        ("pydensecrf", "def f():\n    import torch.nn", "planted.pydensecrf:2 imports torch.nn"),
        (
            "pydensecrf",
            "from ._native import pair",
            "planted.pydensecrf:1 imports planted._native: no",
        ),
        ("_memory", "import torch", "planted._memory:1 imports torch: no part of the drop-in may"),
    ],
)
def test_what_is_forbidden_is_found(tmp_path, module, text, complaint):
    assert forbidden(planted(tmp_path, {})) == []
    (found,) = forbidden(planted(tmp_path, {module: text}))
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "text", "ring"),
    [
        ("ops/b", "from .a import f", {"ops.a", "ops.b"}),
        ("ops/b", "def f():\n    from . import a", {"ops.a", "ops.b"}),
        ("ops/b", "if not TYPE_CHECKING:\n    from . import a", {"ops.a", "ops.b"}),
        ("crf/params", "from . import Field", {"crf", "crf.field", "crf.params"}),
        # closed by crf/__init__.py alone: field, which it imports, imports ops.a
        ("ops/a", "from ..crf.params import P", {"ops.a", "crf", "crf.field"}),
        ("crf/params", "from .. import crf", {"crf", "crf.field", "crf.params"}),
    ],
)
def test_a_circle_is_found(tmp_path, module, text, ring):
    assert circle(planted(tmp_path, {})) == []
    found = circle(planted(tmp_path, {module: text}))
    assert {name.removeprefix("planted.") for name in found} == ring


def planted(folder: Path, changed: dict[str, str]) -> list[Import]:
    for name, text in (GOOD | changed).items():
        path = folder / "planted" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_imports(folder / "planted")


def test_type_checkers_know_every_name_of_the_package():
    """They do not run the package's `__getattr__`."""
    tree = ast.parse((ROOT / "__init__.py").read_text())
    unrun = _for_type_checkers(tree)
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.lineno in unrun]
    # without `as` a name is not exported to them
    known = {alias.asname: node.module or "" for node in imports for alias in node.names}
    lazy = set(deeplab_native.__all__) - {"__version__"}
    assert known.keys() == lazy
    homes = {name: deeplab_native._HOMES.get(name, "") for name in lazy}
    assert known == homes
