"""Where commands and training print: nothing that they are given speaks to the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ._errors import printable


class TextConsole(Console):
    """rich's console for text as it is: no markup, and no sequences of the text's own.

    Brackets in names of files are no markup, escape sequences in them are shown as what they are.
    """

    def __init__(self, **how: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **how)

    def render_str(self, text: str, **how: Any) -> Text:
        """Of rich: a text before it is laid out."""
        return super().render_str(printable(text), **how)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Of rich: everything that is printed comes through here, also rich's own `Text`."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text), style, control)
