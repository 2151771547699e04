"""The stubs of the native module against the module: names, arguments, defaults and types.

stubtest sees the names alone (.ci/types.sh runs it): the signatures of functions in C++ stand only
in the docstrings that pybind11 writes, which are compared here. Where the module was built without
CUDA, the emulated kernels stand for the functions that it lacks: they have the same bindings.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import pytest

import deeplab_native
from deeplab_native import _C

PACKAGE = Path(deeplab_native.__file__).parent
FILES = tuple(sorted(PACKAGE.glob("_C*.pyi")))
BINDINGS = Path(__file__).parents[2] / "csrc"

Signature = tuple[list[tuple[str, str, str | None]], str]
"""((name, type, default) of every argument, the result's type); argN by position only."""


class Stub:
    """What the stub files say: signatures, attributes, and those of classes by "Class.name"."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.signatures: dict[str, Signature] = {}
        self.attributes: dict[str, str] = {}
        self.bases: dict[str, str] = {}
        self._aliases: dict[str, ast.expr] = {}
        trees = [ast.parse(text) for text in texts]
        for tree in trees:
            for node in tree.body:
                if isinstance(node, ast.Assign):
                    self._aliases[node.targets[0].id] = node.value
        for tree in trees:
            self._add(tree.body, "")
        self._inherit()

    def _add(self, body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                self._add(node.body, f"{node.name}.")
                self.attributes[node.name] = "type"
                for base in node.bases:
                    self.bases[node.name] = base.id
            elif isinstance(node, ast.AnnAssign):
                self.attributes[prefix + node.target.id] = self._kind(node.annotation)
            elif isinstance(node, ast.FunctionDef):
                if any(ast.unparse(d) == "property" for d in node.decorator_list):
                    self.attributes[prefix + node.name] = self._kind(node.returns)
                else:
                    self.signatures[prefix + node.name] = signature_of(node, self._kind)

    def _kind(self, node: ast.expr) -> str:
        return kind_of(node, self._aliases)

    def _inherit(self) -> None:
        """Classes get what their private base has, which the module has not."""
        for name, base in self.bases.items():
            for table in (self.signatures, self.attributes):
                inherited = {k: v for k, v in table.items() if k.startswith(f"{base}.")}
                for key, value in inherited.items():
                    table[f"{name}{key.removeprefix(base)}"] = value
        for table in (self.signatures, self.attributes):
            for key in [k for k in table if k.startswith("_") and not k.startswith("__")]:
                del table[key]


def signature_of(node: ast.FunctionDef, kind: Callable[[ast.expr], str]) -> Signature:
    """Of a function in a stub, or of one written as pybind11's docstrings have it."""
    args = node.args
    positional = args.posonlyargs + args.args
    defaults = [None] * (len(positional) - len(args.defaults)) + args.defaults
    found = []
    for arg, default in zip(positional, defaults, strict=True):
        if arg.arg == "self":
            continue
        name = f"arg{len(found)}" if arg in args.posonlyargs else arg.arg
        found.append((name, kind(arg.annotation), default and ast.unparse(default)))
    return found, kind(node.returns)


def kind_of(node: ast.expr, aliases: dict[str, ast.expr]) -> str:
    """The type in the words that a stub and all versions of pybind11 can be brought to."""
    text = ast.unparse(node)
    if text in aliases:
        return kind_of(aliases[text], aliases)
    if "SupportsFloat" in text and not isinstance(node, ast.Subscript):
        return "float"
    if "SupportsInt" in text and not isinstance(node, ast.Subscript):
        return "int"
    if not isinstance(node, ast.Subscript):
        return text.rpartition(".")[2]
    outer, inner = ast.unparse(node.value).rpartition(".")[2], node.slice
    items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if outer == "Annotated":  # of an std::array: a list with its length
        length = int(re.search(r"FixedSize\((\d+)\)", text)[1])
        return f"({', '.join([kind_of(items[0].slice, aliases)] * length)})"
    if outer in ("Sequence", "list"):
        return f"[{kind_of(items[0], aliases)}]"
    return f"({', '.join(kind_of(item, aliases) for item in items)})"


def signature_of_native(docstring: str) -> Signature:
    """Of pybind11's first line, "name(arg0: int, width: int = 0) -> Lattice"."""
    line = docstring.strip().splitlines()[0]
    header = re.sub(r"^\w*\(", "def f(", line)
    return signature_of(ast.parse(f"{header}: ...").body[0], lambda node: kind_of(node, {}))


def read_native(module: ModuleType) -> tuple[dict[str, Signature], dict[str, str]]:
    """Signatures and attributes of a module, as those of a `Stub`."""
    signatures: dict[str, Signature] = {}
    attributes: dict[str, str] = {}

    def add(key: str, value: object) -> None:
        if isinstance(value, property):
            attributes[key] = signature_of_native(value.fget.__doc__)[1]
        elif callable(value) and not isinstance(value, type):
            signatures[key] = signature_of_native(value.__doc__)
        else:
            attributes[key] = type(value).__name__

    for name, value in vars(module).items():
        if name.startswith("_") and name != "__version__":
            continue
        add(name, value)
        if isinstance(value, type):
            attributes[name] = "type"
            own = {k: v for k, v in vars(value).items() if not k.startswith("_")}
            if value.__init__.__doc__.startswith("__init__("):  # others cannot be made in Python
                own["__init__"] = value.__init__
            for key, member in own.items():
                add(f"{name}.{key}", member)
    return signatures, attributes


def differences(texts: Iterable[str], module: ModuleType, *, cuda: bool | None) -> list[str]:
    """In words; of the functions of CUDA alone, of all the rest, or of everything (None)."""
    stub, (signatures, attributes) = Stub(texts), read_native(module)
    there, here = stub.signatures | stub.attributes, signatures | attributes
    if cuda is not None:
        functions = stub.signatures.keys() | signatures.keys()
        of_cuda = {name for name in functions if name.endswith("_cuda")}
        there, here = (
            {k: v for k, v in d.items() if (k in of_cuda) == cuda} for d in (there, here)
        )
    found = []
    for name in sorted(there.keys() | here.keys()):
        if name not in there or name not in here:
            found.append(f"{name}: only in the {'stub' if name in there else 'module'}")
        elif there[name] != here[name]:
            found.append(f"{name}: {there[name]} in the stub, {here[name]} in the module")
    return found


def stub_texts() -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in FILES}


def test_stub_is_the_module():
    cuda = None if _C.has_cuda else False
    assert differences(stub_texts().values(), _C, cuda=cuda) == []


def test_stub_of_cuda_is_the_emulator(emulator):
    assert differences(stub_texts().values(), emulator, cuda=True) == []


@pytest.mark.parametrize("file", sorted(BINDINGS.glob("bindings_*.cpp")), ids=lambda f: f.stem)
def test_a_stub_for_each_file_of_the_bindings(file):
    bound = re.findall(r'm\.def\(\s*"(\w+)"', file.read_text(encoding="utf-8"))
    own = stub_texts()[f"_C{file.stem.removeprefix('bindings')}.pyi"]
    assert sorted(bound) == sorted(Stub([own]).signatures)


@pytest.mark.parametrize(
    ("file", "before", "after", "found"),
    [
        ("_C.pyi", "def kept_memory() -> int: ...", "", "kept_memory: only in the module"),
        ("_C.pyi", "def isa()", "def isas()", "isas: only in the stub"),
        ("_C.pyi", "-> list[str]", "-> str", "available_isas: "),
        ("_C.pyi", "max_feature_dim: int", "max_feature_dim: str", "max_feature_dim: "),
        (
            "_C.pyi",
            "width: int = 0,\n    bridged",
            "width: int = 1,\n    bridged",
            "build_lattice_",
        ),
        (
            "_C.pyi",
            "    like_pydensecrf: bool,\n    width",
            "    exact: bool,\n    width",
            "build_lat",
        ),
        (
            "_C.pyi",
            "def step(self, q: int, next: int, /)",
            "def step(self, q: int, /)",
            "MeanFieldD",
        ),
        (
            "_C.pyi",
            "def num_vertices(self, kernel: int, /)",
            "def num_vertices(self)",
            "MeanFieldF",
        ),
        ("_C_aspp.pyi", "size: Pair, index", "size: Quad, index", "aspp_unpack_cpu: "),
        ("_C_aspp.pyi", "bias: int,\n", "", "aspp_"),
    ],
)
def test_a_wrong_stub_is_found(file, before, after, found):
    texts = stub_texts()
    assert before in texts[file]
    texts[file] = texts[file].replace(before, after)
    assert any(line.startswith(found) for line in differences(texts.values(), _C, cuda=False))
