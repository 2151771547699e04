"""What the tests of the command line share."""

from __future__ import annotations

from typing import NamedTuple

HEIGHT, WIDTH, LABELS = 20, 30, 4


class Result(NamedTuple):
    code: int
    out: str
    err: str


def fails(result: Result, *words: str, advice: bool = True) -> None:
    """The command failed with one line that has the words, and that says what to do.

    advice=False: nobody can say what to do, so the line points to --debug.
    """
    assert result.code == 1
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1  # one line
    assert advice is not result.err.endswith("(--debug shows where)\n")
    for word in words:
        assert word in result.err
