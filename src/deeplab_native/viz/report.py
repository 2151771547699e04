"""A report as one HTML file that needs no other: tables, figures, pictures, parameters.

It has no script and loads nothing, also where a name in it would want that: everything that comes
from outside is escaped, and a content security policy forbids the rest.
"""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._files import atomic_path
from .._machine import cores, cpu_model, now, versions
from .figures import to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_QUALITY = 85  # of photographs, as JPEG


class Headline(NamedTuple):
    """A number of the first line, as it is to be read: "mean IoU", "85.2 %", "before 83.5 %"."""

    name: str
    value: str
    note: str = ""


class Shot(NamedTuple):
    """A picture of a gallery: what it shows, and its pixels (H, W, 3) uint8."""

    caption: str
    pixels: np.ndarray


@dataclass
class HTMLReport:
    """What a report says, in order; `write` makes the file.

    Every text is shown as it is, whatever is in it.

    Args:
        kind: what it is a report of, as "Evaluation".
        title: of this one, as the data set's name.
        command: what repeats it; None where nothing is said.
        machine: facts beside the processor, as the GPU's name.
    """

    kind: str
    title: str
    command: str | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    _blocks: list[dict[str, Any]] = field(default_factory=list, init=False)
    _headlines: list[Headline] = field(default_factory=list, init=False)

    def headline(self, name: str, value: str, note: str = "") -> None:
        """A number that stands above all others."""
        self._headlines.append(Headline(name, value, note))

    def section(self, title: str) -> None:
        """What follows is of another matter."""
        self._add("section", title=title)

    def text(self, words: str) -> None:
        """A paragraph."""
        self._add("text", words=words)

    def facts(self, facts: Mapping[str, object]) -> None:
        """What, and its value, a line each."""
        self._add("facts", facts=[(name, _plain(value)) for name, value in facts.items()])

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        marked: int | None = None,
        note: str = "",
    ) -> None:
        """Names in the first column, numbers in the others; the row `marked` is the best."""
        self._add("table", columns=columns, rows=list(rows), marked=marked, note=note)

    def figure(self, figure: Figure, description: str, *, note: str = "") -> None:
        """A figure of `viz`; `description` says to those who do not see it what it shows."""
        source = _uri("image/svg+xml", to_svg(figure))
        width = round(figure.get_size_inches()[0] * 96)  # CSS pixels
        self._add("figure", source=source, description=description, width=width, note=note)

    def gallery(
        self,
        name: str,
        shots: Iterable[Shot],
        *,
        note: str = "",
        colours: Sequence[tuple[str, Sequence[int]]] = (),
    ) -> None:
        """Pictures of one thing beside each other, with the names of the colours (RGB) in them."""
        self._add(
            "gallery",
            name=name,
            note=note,
            shots=[
                {
                    "caption": shot.caption,
                    "source": _uri("image/jpeg", _jpeg(shot.pixels)),
                    "width": shot.pixels.shape[1],
                    "height": shot.pixels.shape[0],
                }
                for shot in shots
            ],
            colours=_hex(colours),
        )

    def colours(self, names: Sequence[tuple[str, Sequence[int]]]) -> None:
        """What the colours (RGB) of the pictures below mean."""
        self._add("colours", colours=_hex(names))

    def code(self, words: str, what: str = "") -> None:
        """Text of fixed width that a click selects."""
        self._add("code", words=words, what=what)

    def html(self) -> str:
        """The file's text."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        machine = {"processor": f"{cpu_model()}, {cores()} cores", **self.machine}
        date = now()
        page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
        return page.render(
            kind=self.kind,
            title=self.title,
            command=self.command,
            headlines=self._headlines,
            blocks=self._blocks,
            versions=versions(),
            machine=machine,
            date=date.isoformat(timespec="seconds"),
            said_date=f"{date.day} {date:%B %Y, %H:%M} UTC",
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the file, whole or not at all."""
        text = self.html()
        with atomic_path(path) as temporary:
            # names of files may hold bytes that are no text
            temporary.write_text(text, encoding="utf-8", errors="replace")

    def _add(self, kind: str, **content: Any) -> None:
        self._blocks.append({"kind": kind, **content})


def _hex(names: Sequence[tuple[str, Sequence[int]]]) -> list[tuple[str, str]]:
    return [(name, "#{:02x}{:02x}{:02x}".format(*map(int, rgb))) for name, rgb in names]


def _uri(mime: str, content: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _jpeg(pixels: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def _plain(value: object) -> str:
    """As people read it: no quotes, no braces."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)
