"""Every code block of README and docs/ runs as it stands there, or says why it cannot run here."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("sybil")
pytest.importorskip("yaml")
pytest.importorskip("nibabel")

from python_tests.docs import examples
from python_tests.docs.documents import ROOT


@pytest.fixture
def namespace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return examples.write_files(tmp_path)


@pytest.mark.parametrize("path", examples.documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_document(path, namespace):
    examples.check_data(path)
    for reason in examples.run(path, namespace):
        assert len(reason) > 10  # it is one


def write(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_blocks_run_in_order(tmp_path, namespace):
    page = """
<!-- invisible-code-block: python
start = 1
-->
```python
print(start)
value = start + len(photo)
```
```json title="own/value.json"
{"value": 7}
```
```bash
deeplab-native --version
python -c 'import json; assert json.load(open("own/value.json"))["value"] == 7'
```
<!-- skip: next "there is no such command" -->
```bash
no-such-command
```
```python
value += 1
with open("value", "w") as file:
    file.write(str(value))
```
```yaml
a: 1
```
"""
    assert examples.run(write(tmp_path, page), namespace) == ["there is no such command"]
    assert (tmp_path / "value").read_text() == str(len(namespace["photo"]) + 2)
    assert json.loads((tmp_path / "own/value.json").read_text()) == {"value": 7}


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("```python\nx = 1\nraise KeyError(x)\n```\n", KeyError, "1"),
        ("```bash\nfalse\ntrue\n```\n", AssertionError, r"page.md:1: status 1"),
        ("```bash\nfalse | true\n```\n", AssertionError, "status 1"),
        ("\n```rust\nfn main() {}\n```\n", ValueError, r"page.md:2: a block of rust"),
        ('```python title="../x.py"\n```\n', ValueError, r"outside of the folder: \.\./x\.py"),
    ],
)
def test_what_fails_is_seen(text, error, message, tmp_path, namespace):
    with pytest.raises(error, match=message):
        examples.run(write(tmp_path, text), namespace)


def test_lines_are_the_documents(tmp_path, namespace):
    page = write(tmp_path, "\n\n```python\nx = 1\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        examples.run(page, namespace)
    assert caught.traceback[-1].lineno + 1 == 5


def test_data_without_a_title_is_data(tmp_path):
    with pytest.raises(Exception, match="flow sequence"):
        examples.check_data(write(tmp_path, "```yaml\na: [1\n```\n"))
