"""Reading a configuration: YAML, `extends`, values from the command line, and errors in words.

pydantic, which checks it, is imported only then: `read_config` and `whole_config` do without.
"""

from __future__ import annotations

import copy
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .config import Config

_SHIPPED = Path(__file__).parent / "configs"
_DEEPEST = 8  # files that extend one another
_MOST_BRACKETS = 100  # one in another
_MOST_VALUES = 10_000  # of a file; the longest that is shipped has some fifty


def load_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> Config:
    """A YAML file as a checked configuration.

    Args:
        path: the file. Its key `extends` names another, relative to it, that it begins with;
            sections are merged key by key, lists and `options` replaced.
        overrides: "key.sub=value" each, after the files; the value is YAML.

    Raises:
        ValueError: no YAML; an unknown key (the nearest is named) or a value of another type or
            range, all of them listed; files that extend one another in a circle.
        OSError: a file cannot be read.
    """
    return check_config(read_config(path, overrides), str(path))


def shipped_configs() -> dict[str, Path]:
    """The configurations of this package by name, as "voc12/table4_msc"; bases left out."""
    names = {
        p.relative_to(_SHIPPED).with_suffix("").as_posix(): p for p in _SHIPPED.rglob("*.yaml")
    }
    return {name: names[name] for name in sorted(names) if "/" in name}


def find_config(name: str | os.PathLike[str]) -> Path:
    """The file of that name, or else the configuration of this package.

    Raises FileNotFoundError that names the nearest of them.
    """
    path, shipped = Path(name), shipped_configs()
    if path.is_file():
        return path
    if str(name) in shipped:
        return shipped[str(name)]
    close = difflib.get_close_matches(str(name), shipped, n=1)
    advice = (
        f"did you mean {close[0]}?"
        if close
        else "expected a folder of photographs, a YAML file, or a name that --list shows"
    )
    raise FileNotFoundError(f"{name}: no such folder or configuration; {advice}")


def read_config(path: str | os.PathLike[str], overrides: Iterable[str] = ()) -> dict[str, Any]:
    """`load_config` without the check of its keys and values."""
    return merge_overrides(_read(Path(path), ()), overrides)


def merge_overrides(content: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """The content of a file with "key.sub=value" each over it; `content` stays as it is."""
    for override in overrides:
        content = _merged(content, _parsed(override))
    return content


def check_config(content: Mapping[str, Any], where: str = "config") -> Config:
    """Raises ValueError that names `where` and every key that is wrong."""
    from pydantic import ValidationError

    from .config import Config

    try:
        return Config.model_validate(dict(content))
    except ValidationError as error:
        problems = [_in_words(dict(item)) for item in error.errors(include_url=False)]
        raise ValueError(f"{where}: " + "; ".join(problems)) from None


class _Whole:
    """The values of a file that leaves none out, as attributes."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        for key, value in content.items():
            # `options` is the one mapping that is no section
            section = isinstance(value, dict) and key != "options"
            setattr(self, key, _Whole(value) if section else value)

    def model_dump(self, *, mode: str = "python") -> dict[str, Any]:
        """As of pydantic's models."""
        content: dict[str, Any] = copy.deepcopy(dict(self._content))
        return json.loads(json.dumps(content)) if mode == "json" else content


class _WholeConfig(_Whole):
    """`Config` of such a file."""

    @property
    def iterations(self) -> int:
        schedule = self._content["schedule"]
        return int(schedule["head_first"]["iterations"] + schedule["iterations"])


def whole_config(content: Mapping[str, Any]) -> Config:
    """What `read_config` read of a file that leaves no value out, as `dump_config` writes it.

    It is for machines without pydantic: nothing is checked, and a missing value is an
    AttributeError when it is needed.
    """
    return cast("Config", _WholeConfig(content))


def dump_config(config: Config) -> str:
    """All values as YAML, those that were not given included."""
    text: str = yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
    return text


def _read(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in below or len(below) >= _DEEPEST:
        raise ValueError(f"{path}: extends itself (remove one extends of {below[0]})")
    if below and not path.is_file():  # a device may never end
        raise FileNotFoundError(f"{below[-1]}: extends {path}, which is no file (check the name)")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no text (expected YAML)") from None
    content = _yaml(text, str(path))
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected keys and values, got {type(content).__name__}")
    base = content.pop("extends", None)
    if base is None:
        return content
    if not isinstance(base, str):
        raise ValueError(f"{path}: extends: expected a file name, got {base!r}")
    return _merged(_read(path.parent / base, (*below, path)), content)


def _yaml(text: str, where: str) -> Any:
    """Text as numbers, texts, lists and dicts, no more of them than `_MOST_VALUES`.

    Aliases count each time: a few of them, one in another, stand for any number of values.
    """
    depth = 0  # PyYAML's time grows with its third power: 3 KB of brackets took half a minute
    for bracket in re.findall(r"[][{}]", text):
        depth = max(0, depth + (1 if bracket in "[{" else -1))
        if depth > _MOST_BRACKETS:
            raise ValueError(f"{where}: no YAML: brackets in brackets, {_MOST_BRACKETS} and more")
    try:
        content = yaml.safe_load(text)
    # PyYAML's constructors let through what Python says of "2001-99-99" or "!!bool x"
    except (
        yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{where}: no YAML: {said}") from None
    left, todo = _MOST_VALUES, [content]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += [*value, *value.values()]
        elif isinstance(value, list):
            todo += value
        elif isinstance(value, int) and value.bit_length() > 64:
            raise ValueError(f"{where}: a number of {value.bit_length()} bits")
        elif not isinstance(value, str | int | float | None):
            raise ValueError(
                f"{where}: {value!r:.80}, a {type(value).__name__} (expected texts, numbers, "
                "lists, and keys with values)"
            )
        left -= 1
        if left < len(todo):
            raise ValueError(f"{where}: more than {_MOST_VALUES} values (aliases of aliases?)")
    return content


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        there = result.get(key)
        # options belong to a net or data set: those of another are of no use
        if isinstance(there, dict) and isinstance(value, dict) and key != "options":
            value = _merged(there, value)
        result[key] = value
    return result


def _parsed(override: str) -> dict[str, Any]:
    key, sign, text = override.partition("=")
    parts = key.strip().split(".")
    if not sign or not all(parts):
        raise ValueError(f"--set {override!r}: expected key.sub=value")
    value = _yaml(text, f"--set {override!r}")
    content: dict[str, Any] = {parts[-1]: value}
    for part in reversed(parts[:-1]):
        content = {part: content}
    return content


def _in_words(item: dict[str, Any]) -> str:
    names = [str(part) for part in item["loc"]]
    key = ".".join(names) or "config"
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_suggestion(names)}"
    if item["type"] == "missing":
        return f"{key}: missing; expected a value"
    if item["type"] == "value_error":
        prefix = f"{key}: " if names else ""
        return f"{prefix}{item['ctx']['error']}"
    message = item["msg"][0].lower() + item["msg"][1:]
    message = message.removeprefix("input should be ").removeprefix("a valid ")
    hint = ""
    if isinstance(item["input"], str) and _is_number(item["input"]):
        hint = " (YAML takes 1e-3 for a text: write 1.0e-3 or 0.001)"
    return f"{key}: expected {message}, got {item['input']!r:.80}{hint}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _suggestion(names: list[str]) -> str:
    from .config import Config

    section: type[BaseModel] = Config
    for name in names[:-1]:
        field = section.model_fields.get(name)
        if field is None or not isinstance(field.annotation, type):
            break
        section = field.annotation
    known = list(getattr(section, "model_fields", {}))
    close = difflib.get_close_matches(names[-1], known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"expected one of {', '.join(known)}"
