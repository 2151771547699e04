"""Runs the code blocks of a document, one after the other, as a reader would.

All of them run in one folder that has a reader's files (`write_files`), and Python blocks share one
namespace, in which a document may prepare what its blocks name in a comment that no reader sees:

    <!-- invisible-code-block: python
    logits = torch.from_numpy(scores)[None]
    -->

A block of any language with a title, ```yaml title="my.yaml"```, is written to that file instead.
Of Bash blocks every line must end with status 0. Blocks of text or of no language are not run. What
cannot run here is skipped with a reason, an expression: `<!-- skip: next "needs the data set" -->`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import numpy as np
import torch
import yaml
from PIL import Image
from sybil import Document, Example, Region
from sybil.parsers.markdown import SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from deeplab_native import viz
from deeplab_native.demo.photo import photograph
from python_tests.docs.documents import ROOT

LANGUAGES = ("bash", "python")
DATA = ("json", "yaml", "toml")  # run only where they have a title
_SECONDS = 300  # of a Bash block: a limit that only a hang exceeds


def run(path: Path, namespace: dict[str, object]) -> list[str]:
    """Runs all blocks of a document in the working folder; the reasons of those that were skipped.

    Raises what a block raises, with the document's line in the traceback.
    """
    skipped = []
    document = parse(path)
    document.namespace.update(namespace, __name__="__main__")
    for example in document:
        try:
            example.evaluate()
        except SkipTest as reason:
            skipped.append(str(reason))
    return skipped


def parse(path: Path) -> Document:
    """The document with its blocks as examples; ValueError where one is of no known kind."""
    return Document.parse(str(path), SkipParser(), _invisible, _blocks)


_INVISIBLE = re.compile(r"^<!-- invisible-code-block: python\n(.*?)^-->", re.M | re.S)
_INFO = re.compile(r' *(?P<language>\w*)(?: title="(?P<title>[^"\n]+)")?(?: [^\n]*)?\n')


def _invisible(document: Document):
    for match in _INVISIBLE.finditer(document.text):
        yield _region(match.start(), match.end(), match[1], 1, _python)


def _blocks(document: Document):
    for region in RawFencedCodeBlockLexer(_INFO)(document):
        language, title = region.lexemes["language"], region.lexemes["title"]
        source = str(region.lexemes["source"])
        if title:
            evaluator = _writer(title)
        elif language in LANGUAGES:
            evaluator = _python if language == "python" else _bash
        elif language in ("", "text", "mermaid", *DATA):
            continue
        else:
            line = document.text.count("\n", 0, region.start) + 1
            raise ValueError(f"{document.path}:{line}: a block of {language}, which nothing runs")
        yield _region(region.start, region.end, source, 1, evaluator)


def _region(start: int, end: int, source: str, line_offset: int, evaluator) -> Region:
    return Region(start, end, (source, line_offset), evaluator)


def _python(example: Example) -> None:
    source, line_offset = example.parsed
    padded = "\n" * (example.line + line_offset - 1) + source
    exec(compile(padded, example.path, "exec", dont_inherit=True), example.namespace)


def _writer(title: str):
    def write(example: Example) -> None:
        path = Path(title)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(
                f"{example.path}:{example.line}: a title outside of the folder: {title}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(example.parsed[0])

    return write


def _bash(example: Example) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example.parsed[0]],
        env={**os.environ, "PATH": path, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
    )
    if done.returncode:
        raise AssertionError(
            f"{example.path}:{example.line}: status {done.returncode}\n{done.stdout[-3000:]}"
        )


def write_files(folder: Path) -> dict[str, object]:
    """Writes a reader's files, small ones; the names that Python blocks find without a word.

    photo.jpg, mask.png (255 on the person), labels.png (VOC's, 255 = unsure along the outline) and
    scores.npy (21, H, W) belong together; scan.nii.gz with its scores in scan_scores.npy is a
    volume. photos/, scores/, labels/ hold three of them each, by name; pictures/ is a data set as
    `train` takes it: images/ and labels/ of eight. Names: `photo` (H, W, 3) uint8, `mask` (H, W)
    bool, `labels` (H, W) uint8, `scores` (21, H, W) float32, `np`, `torch`.
    """
    photo, labels, scores = _scene(0)
    Image.fromarray(photo).save(folder / "photo.jpg", quality=95)
    photo = np.array(Image.open(folder / "photo.jpg"))
    mask = labels == 15
    viz.save_png(folder / "mask.png", mask.astype(np.uint8) * 255)
    viz.save_label_png(folder / "labels.png", labels)
    np.save(folder / "scores.npy", scores)
    for name in ("photos", "scores", "labels", "pictures/images", "pictures/labels"):
        (folder / name).mkdir(parents=True)
    for i in range(8):
        image, truth, guess = _scene(i)
        pairs = [("pictures/images", "pictures/labels")]
        if i < 3:
            pairs.append(("photos", "labels"))
            np.save(folder / f"scores/{i}.npy", guess)
        for images, label_maps in pairs:
            Image.fromarray(image).save(folder / f"{images}/{i}.jpg", quality=95)
            viz.save_label_png(folder / f"{label_maps}/{i}.png", truth)
    _write_scan(folder)
    return {
        "photo": photo, "mask": mask, "labels": labels, "scores": scores,
        "np": np, "torch": torch, "__file__": str(folder / "example.py"),
    }  # fmt: skip


def _scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(photograph, labels, scores) of the package's person, from another side for every seed."""
    random = np.random.default_rng(seed)
    height, width = 96 + 8 * (seed % 2), 88
    top, left = random.integers(0, 60, 2) if seed else (0, 0)
    crop = Image.fromarray(photograph()).crop((left, top, left + 440, top + 520))
    photo = np.array(crop.resize((width, height), Image.Resampling.LANCZOS))
    y, x = np.mgrid[:height, :width]
    head = ((x + left / 5 - 50) / 19) ** 2 + ((y + top / 5 - 34) / 26) ** 2 < 1
    body = ((x + left / 5 - 50) / 44) ** 2 + ((y + top / 5 - 100) / 44) ** 2 < 1
    person = head | body
    labels = np.where(person, 15, 0).astype(np.uint8)
    scores = random.normal(0, 0.3, (21, height, width)).astype(np.float32)
    scores[0] += 4.0 * ~person
    scores[15] += 4.0 * person
    return photo, labels, scores


def _write_scan(folder: Path) -> None:
    """A scan of 24 x 20 x 8 voxels with a bright ball in it, and the scores of two labels."""
    import nibabel

    x, y, z = np.mgrid[:24, :20, :8]
    ball = (x - 12) ** 2 + (y - 10) ** 2 + (3 * (z - 4)) ** 2 < 49
    noise = np.random.default_rng(0).normal(0, 10, ball.shape)
    scan = nibabel.Nifti1Image((ball * 150.0 + noise).astype(np.int16), np.diag([1, 1, 3, 1]))
    nibabel.save(scan, folder / "scan.nii.gz")
    scores = np.stack([1 - 2.0 * ball, 2.0 * ball - 1]).astype(np.float32)
    np.save(folder / "scan_scores.npy", scores)


def documents() -> list[Path]:
    """Every page whose blocks run, README first."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def check_data(path: Path) -> None:
    """YAML and JSON that have no title are at least what they say."""
    for language, source in re.findall(r"^```(\w+)\n(.*?)^```", path.read_text(), re.M | re.S):
        if language in DATA[:2]:
            yaml.safe_load(source)  # JSON, too
