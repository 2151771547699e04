"""What could run or write more than it should is not in the source, but for what is named here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import deeplab_native

PACKAGE = Path(deeplab_native.__file__).parent
# Calls that are forbidden unless they say what stands here; None: in any case
FORBIDDEN: dict[str, tuple[str, object] | None] = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "np.save": ("allow_pickle", False),
    **dict.fromkeys(
        (
            *("pickle.load", "pickle.loads", "pickle.Unpickler", "pickle.dump", "pickle.dumps"),
            *("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.Loader"),
            *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.tmpnam"),
            *("pty.spawn", "code.interact", "tempfile.mktemp", "Markup", "logging.config.listen"),
            *(
                "torch.jit.load",
                "torch.package.PackageImporter",
                "torch.hub.load",
                "runpy.run_path",
            ),
            *("runpy.run_path", "runpy.run_module", "shutil.unpack_archive"),
        )
    ),
}
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle"}
MODULES |= {"subprocess", "telnetlib", "ftplib", "xmlrpc", "ctypes", "cffi"}
METHODS = {"extractall", "extract", "enable_load_extension", "set_trace", "run_module"}
WORDS = {"shell": True, "trust_remote_code": True, "autoescape": False, "check_hostname": False}

# File, what it has, why that is no harm
JUSTIFIED = {
    ("weights/state_dict.py", "pickle"): "the class of an error of torch.load(weights_only=True)",
    ("_malloc.py", "ctypes"): "calls mallopt and malloc_trim of the C library",
}


def found_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name.split(".")[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            said = {
                w.arg: w.value.value for w in node.keywords if isinstance(w.value, ast.Constant)
            }
            if name in FORBIDDEN:
                needed = FORBIDDEN[name]
                if needed is None or said.get(needed[0]) is not needed[1]:
                    yield name
            if name.rpartition(".")[2] in METHODS:
                yield name.rpartition(".")[2]
            yield from (word for word, value in WORDS.items() if said.get(word) is value)


def forbidden(text: str) -> set[str]:
    every = MODULES | FORBIDDEN.keys() | METHODS | WORDS.keys()
    return {name for name in found_in(ast.parse(text)) if name in every}


def test_the_package():
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in forbidden(path.read_text())
    }
    assert found == JUSTIFIED.keys()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import pickle as p", "pickle"),
        ("def f():\n    from joblib import load", "joblib"),
        ("torch.load(f)", "torch.load"),
        ("torch.load(f, weights_only=False)", "torch.load"),
        ("torch.load(f, weights_only=flag)", "torch.load"),
        ("np.load(f, allow_pickle=True)", "np.load"),
        ("np.load(f)", "np.load"),
        ("yaml.load(f)", "yaml.load"),
        ("eval(x)", "eval"),
        ("tar.extractall(folder)", "extractall"),
        ("run(x, shell=True)", "shell"),
        ("tempfile.mktemp()", "tempfile.mktemp"),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", "trust_remote_code"),
        ("Environment(autoescape=False)", "autoescape"),
    ],
)
def test_what_is_forbidden_is_found(text, name):
    assert forbidden(text) == {name}


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(f, weights_only=True)",
        "np.load(f, allow_pickle=False)",
        "yaml.safe_load(f)",
        "net.eval()",
        "re.compile(x)",
        "Environment(autoescape=True)",
    ],
)
def test_what_is_allowed_is_not(text):
    assert forbidden(text) == set()
