"""The table of commands and options in docs/command_line.md, from the commands themselves.

python .ci/command_line.py            # says whether the page is up to date
python .ci/command_line.py --update   # writes it
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from deeplab_native.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "command_line.md"
_START = "<!-- made by .ci/command_line.py --update -->\n"
_MARKUP = re.compile(r"\[/?(?:bold|cyan)?\]")


def commands() -> dict[str, Any]:
    """Click's commands by name."""
    return typer.main.get_command(app).commands  # type: ignore[attr-defined, no-any-return]


def options(command: Any) -> dict[str, Any]:
    """What a command shows in --help, by the names there: `-o, --output`, or an argument's."""
    shown = {}
    for one in command.params:
        if getattr(one, "hidden", False):
            continue
        names = [*one.opts, *one.secondary_opts]
        argument = one.param_type_name == "argument"
        shown[(one.metavar or one.name.upper()) if argument else ", ".join(names)] = one
    return shown


def table() -> str:
    """Which option that several commands have is in which."""
    found = {name: options(command) for name, command in commands().items()}
    every: dict[str, str] = {}
    for of_one in found.values():
        for names, one in of_one.items():
            if one.param_type_name != "argument":
                every.setdefault(names, _text(one))
    shared = [n for n in every if sum(n in of_one for of_one in found.values()) > 1]
    lines = [f"| | {' | '.join(f'`{name}`' for name in found)} |", "|---" * (len(found) + 1) + "|"]
    for names in shared:
        cells = ["x" if names in of_one else "" for of_one in found.values()]
        lines.append(f"| {_code(names)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def sections() -> Iterator[str]:
    """A table of its own for every command."""
    for name, command in commands().items():
        yield f"## {name}\n{command.help.partition(chr(10))[0]}\n"
        rows = [f"| {_code(names)} | {_text(one)} |" for names, one in options(command).items()]
        yield "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def _code(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split(", "))


def _text(one: Any) -> str:
    text = _MARKUP.sub("", " ".join((one.help or "").split())).replace("|", "\\|")
    if one.param_type_name == "option" and one.required:
        text += " Required."
    default = one.default
    plain = isinstance(default, str | int | float | Path) and not isinstance(default, bool)
    return f"{text} Default: {default}." if plain and "Default:" not in text else text


def page() -> str:
    """The page with what is made, its head as it is."""
    head = PAGE.read_text(encoding="utf-8").partition(_START)[0]
    return head + _START + table() + "\n" + "\n".join(sections())


def main() -> int:
    if "--update" in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if page() != PAGE.read_text(encoding="utf-8"):
        print(f"{PAGE} is out of date: python .ci/command_line.py --update", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
