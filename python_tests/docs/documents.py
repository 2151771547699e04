"""What a document says that is not so: commands, options, paths, Python code, names."""

from __future__ import annotations

import ast
import pkgutil
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

import typer

from deeplab_native.cli.main import app

ROOT = Path(__file__).parents[2]
FOLDERS = (
    ".ci", "benchmarks", "csrc", "docs", "experiments", "notebooks", "python_tests", "src", "trust",
)  # fmt: skip
_FILES = {str(p.relative_to(ROOT)) for name in FOLDERS for p in (ROOT / name).rglob("*")}
_FILES |= {p.name for p in ROOT.iterdir()}
OTHERS = {"examples/inference.py"}  # pydensecrf's
_SOURCE = re.compile(r"[\w./*-]+\.(py|pyi|h|cpp|cu|cuh|md|sh|toml)")
_COMMANDS = typer.main.get_command(app).commands


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, with a title or without."""
    return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", text, re.M | re.S)


def spans(text: str) -> list[str]:
    """What stands between single backticks, outside of blocks; a line break in it is a space."""
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]


def command_lines(text: str) -> Iterator[tuple[list[str], bool]]:
    """Words of every command; and whether it can be typed as it is (it stands in a block)."""
    for block in blocks(text, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|", line):
                yield shlex.split(part, comments=True), True
    for span in spans(text):
        if span.startswith(("deeplab-native ", "python ", "pip ")):
            yield shlex.split(span), False


def wrong_commands(text: str) -> list[str]:
    """deeplab-native's arguments, options of our scripts, extras to install."""
    problems = []
    for words, complete in command_lines(text):
        line = " ".join(words)
        if "deeplab-native" in words:
            arguments = words[words.index("deeplab-native") + 1 :]
            problems += [f"{line}: {why}" for why in _wrong_arguments(arguments, complete)]
        for script in (ROOT / word for word in words if word in _FILES and word.endswith(".py")):
            known = script.read_text()
            options = [word for word in words if word.startswith("--") and word not in known]
            problems += [f"{line}: {script.name} has no {option}" for option in options]
        for group in re.findall(r"(?:^\.|deeplab_native)\[(.+?)\]", "\n".join(words), re.M):
            extras = set(group.split(",")) - set(
                metadata("deeplab_native").get_all("Provides-Extra")
            )
            problems += [f"{line}: no extra {extra}" for extra in extras]
    return problems


def _wrong_arguments(words: list[str], complete: bool) -> list[str]:
    name, *arguments = words
    if name not in _COMMANDS:
        return [f"no command {name}"]
    command: Any = _COMMANDS[name]
    parser = command.make_parser(typer.Context(command))
    try:
        values, rest, _ = parser.parse_args(list(arguments))  # converts, checks and runs nothing
    except Exception as error:
        return [str(error)]
    problems = [f"one argument too many: {word}" for word in rest]
    if complete and "--list" not in arguments:
        missing = [p.name for p in command.params if p.required and not values.get(p.name)]
        problems += [f"{parameter} is missing" for parameter in missing]
    return problems


def _exists(path: str, folder: Path) -> bool:
    """As it is from here, in the repository, or as the end of a path in it; * stands for names."""
    if (folder / path).exists():
        return True
    pattern = re.escape(path.rstrip("/")).replace(r"\*", r"[^/]*")
    return any(re.search(rf"(^|/){pattern}$", file) for file in _FILES)


def missing_paths(text: str, folder: Path, *, every: bool = False) -> list[str]:
    """Links, sources and what lies in our folders, as a document in `folder` names them.

    every: whatever has a slash between backticks. `my_op` stands for an op to be written, and
    `<...>` for any name.
    """
    named = set(re.findall(r"\]\(([^)#:]+)\)", text))  # no address of the web has no colon
    for part in [*blocks(text, "bash"), *spans(text)]:
        for word in part.split():
            word = word.strip("`'\",;:()").partition("::")[0]  # of a test, its file
            ours = word.startswith(tuple(f"{name}/" for name in FOLDERS))
            if (
                ours
                or _SOURCE.fullmatch(word)
                or (every and re.fullmatch(r"[\w./*-]+/[\w./*-]*", word))
            ):
                named.add(word)
    named = {path for path in named - OTHERS if "my_op" not in path and "<" not in path}
    return sorted(path for path in named if not _exists(path, folder))


def wrong_code(text: str) -> list[str]:
    """Python blocks that do not compile, imports that fail, names that modules have not."""
    problems = []
    for block in blocks(text, "python"):
        try:
            tree = ast.parse(block)
        except SyntaxError as error:
            problems.append(f"{block}: {error}")
            continue
        names: dict[str, Any] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                try:
                    exec(ast.unparse(node), names)
                except ImportError as error:
                    if not str(error).endswith("'pydensecrf'"):  # which ours replaces
                        problems.append(f"{ast.unparse(node)}: {error}")
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                owner = names.get(node.value.id)
                if owner is not None and not hasattr(owner, node.attr):
                    problems.append(f"{ast.unparse(node)}: no such name")
    for span in spans(text):
        if re.fullmatch(r"deeplab_native(\.\w+)+", span):
            try:
                pkgutil.resolve_name(span)
            except (ImportError, AttributeError) as error:
                problems.append(f"{span}: {error}")
    return problems
