"""Names of files and classes that speak to a terminal, or to rich, are shown as what they are."""

from __future__ import annotations

import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from deeplab_native._errors import printable
from deeplab_native._terminal import TextConsole
from deeplab_native.cli import console

ESCAPE = "\x1b]0;owned\x07\x1b[31m\x9b2J"
NAME = f"a[red]b[/]{ESCAPE}\u202egpj[/"
SHOWN = "a[red]b[/]\\x1b]0;owned\\x07\\x1b[31m\\x9b2J\\u202egpj[/"


def test_printable():
    assert printable(NAME) == SHOWN
    assert printable("\udcff\r\x00\x7f") == "\\udcff\\r\\x00\\x7f"  # of a name that is no UTF-8
    for text in ("photo é 写真 👩\u200d👩\u200d👧.jpg", "two\nlines\tof text", "σα=67 x 3", ""):
        assert printable(text) == text


@pytest.mark.parametrize("terminal", [False, True])
def test_everything_that_is_printed(terminal):
    file = io.StringIO()
    shown = TextConsole(file=file, force_terminal=terminal, width=500)
    table = console.table("name", NAME)
    table.add_row(NAME, "1")
    shown.print(NAME, table, console.facts((NAME, NAME)))
    shown.print(f"error: {NAME}", soft_wrap=True)
    shown.print("bold", style="bold")
    text = file.getvalue()
    # by twos: the heading and the cell of the table, the two of the facts
    assert text.count(SHOWN) == 6
    assert (
        not {"\x07", "\x9b", "\u202e"} & {*text} and "\x1b]" not in text and "\x1b[31m" not in text
    )
    assert ("\x1b[1m" in text) is terminal  # its own colours are its own


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "scores"):
        os.mkdir(folder)
    Image.new("RGB", (16, 12)).save("photos/good.png")
    np.save("scores/good.npy", np.zeros((2, 12, 16), np.float32))
    for name in ("good[red]", f"bad{ESCAPE}[bold]"):
        with open(f"photos/{name}.png", "wb") as file:
            file.write(b"no picture")
        np.save(f"scores/{name}.npy", np.zeros((2, 12, 16), np.float32))
    with open(os.fsencode("photos/") + b"\xff.png", "wb") as file:
        file.write(b"no picture")


def clean(text: str) -> None:
    assert not [c for c in text if not c.isprintable() and c not in "\n\t"], text


def test_a_folder_of_such_names(folders, run):
    done = run("crf", "photos", "scores", "-o", "out", "--workers", 0)
    assert done.code == 1
    clean(done.out)
    clean(done.err)
    assert (
        "bad\\x1b]0;owned\\x07\\x1b[31m\\x9b2J[bold].png" in done.err
        and "good[red].png" in done.err
    )


def test_errors_and_json(folders, run):
    name = f"photos/bad{ESCAPE}[bold].png"
    done = run("crf", name, "scores/good.npy", "-o", "out.png")
    assert done.code == 1 and "error: photos/bad\\x1b]0;owned" in done.err
    clean(done.err)
    done = run("crf", "photos/good.png", "scores/good.npy", "-o", "m[red].png", "--json")
    assert done.code == 0 and json.loads(done.out)
    done = run("segment", os.fsdecode(b"photos/\xff.png"), "-o", "out")
    assert done.code == 1 and "\\udcff.png" in done.err
    clean(done.err)
