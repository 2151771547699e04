"""README, CONTRIBUTING and docs/ are true: commands, paths, code; and what is wrong is found."""

from __future__ import annotations

import pytest

import deeplab_native
from python_tests.docs import names
from python_tests.docs.documents import ROOT, missing_paths, wrong_code, wrong_commands

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# supervision, which a page imports, would rather have it
pytestmark = pytest.mark.filterwarnings("ignore:OpenCV:UserWarning")
of_all = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@of_all
def test_commands(path):
    assert wrong_commands(path.read_text()) == []


@of_all
def test_paths(path):
    every = path.name == "architecture.md"
    assert missing_paths(path.read_text(), path.parent, every=every) == []


@of_all
def test_python(path):
    assert wrong_code(path.read_text()) == []


@of_all
def test_names_in_documents(path):
    assert names.hidden(path.read_text()) == []


def test_names_in_public_docstrings():
    """What a docstring names can be imported, at the latest from the module that defines it."""
    texts = list(names.docstrings())
    assert len(texts) > 300
    assert {
        where: found for where, text, known in texts if (found := names.hidden(text, known))
    } == {}
    assert deeplab_native.PairwiseKernel is deeplab_native.crf.PairwiseKernel


def test_names_that_are_hidden_are_found():
    text = (
        "`CheckedKernel`s, `Unheard(x)` `models.nothing`; `Tensor`, `CRFParams`, `models.predict`"
    )
    assert names.hidden(text) == ["CheckedKernel", "Unheard(x)", "models.nothing"]
    assert names.hidden(text, {"Unheard", "CheckedKernel"}) == ["models.nothing"]


def test_documents_have_something_to_check():
    """Else a fence that is written in another way would hide all of it."""
    text = "".join(path.read_text() for path in DOCUMENTS)
    assert text.count("deeplab-native ") > 15
    assert wrong_commands(text.replace("deeplab-native crf ", "deeplab-native crv "))
    assert wrong_code(text.replace("import CRFParams", "import CRFParam"))


WRONG = """
[a link](nowhere.md) `src/deeplab_native/nothing` `ops/no_op.h` `benchmarks/*.c`
[good](README.md) `ops/aspp.h` `csrc/cuda/*.cu` `csrc/ops/my_op.h` `results/<gpu>.json` `a/b`
`deeplab-native crf photo.jpg --radius 3` `deeplab-native train --list` `deeplab_native.crf.CRV`
`deeplab-native info` `deeplab_native.crf.CRFParams` `deeplab-native crf` `deeplab-native polish`
```bash
python benchmarks/gpu_suite.py --dry-run --wet-run
pip install '.[test,toast]' && deeplab-native evaluate voc -o x   # a comment
deeplab-native info a
```
```python
from deeplab_native import CRFParams, sharpen
CRFParams.preset("voc"), CRFParams.prefix("voc")
```
```python
for x in
```
"""


def test_what_is_wrong_is_found():
    commands = "\n".join(wrong_commands(WRONG))
    for problem in (
        "photo.jpg --radius 3: No such option: --radius",
        "no command polish",
        "gpu_suite.py has no --wet-run",
        "no extra toast",
        "evaluate voc -o x: root is missing",
        "info a: one argument too many: a",
    ):
        assert problem in commands
    assert commands.count("\n") == 5
    named = missing_paths(WRONG, ROOT)
    assert named == ["benchmarks/*.c", "nowhere.md", "ops/no_op.h", "src/deeplab_native/nothing"]
    assert missing_paths(WRONG, ROOT, every=True) == sorted([*named, "a/b"])
    code = "\n".join(wrong_code(WRONG))
    for problem in (
        "cannot import name 'sharpen'",
        "CRFParams.prefix: no such",
        "CRV",
        "invalid syn",
    ):
        assert problem in code
    assert "preset" not in code
