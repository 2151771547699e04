"""JSON of annotation programs: read with every fault named, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._file_kinds import what_else
from .._files import atomic_path
from .rle import short


def read_document(source: object, name: str, kind: type = dict) -> tuple[Any, Path | None]:
    """A JSON object or list, and the file that it is of, None where it was given as it is.

    Args:
        source: a file, or what was read of one.
        name: of the argument, for errors.
        kind: what is wanted, `dict` or `list`.

    Raises:
        TypeError: something else.
        FileNotFoundError: the file is not there.
        ValueError: it is no JSON of that kind.
    """
    if isinstance(source, Mapping if kind is dict else kind):
        return source, None
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"`{name}`: expected a JSON file or what was read of one, got {type(source).__name__}"
        )
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give a JSON file)")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file (check the path)")
    try:
        found = json.loads(path.read_bytes())
    # of text that is no JSON, of no text, and of brackets in brackets
    except (ValueError, RecursionError) as error:
        said = None if _begins_like_json(path) else what_else(path)
        raise ValueError(f"{path}: no JSON: {said or error}") from None
    if not isinstance(found, kind):
        wanted = "a JSON object {...}" if kind is dict else "a JSON list [...]"
        raise ValueError(f"{path}: expected {wanted}, got {short(found)}")
    return found, path


def write_document(path: str | os.PathLike[str], document: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    with atomic_path(path) as temporary:
        text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def entry(of: object, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`of[key]`, of a type that is said; ValueError where it is not."""
    if not isinstance(of, Mapping):
        raise ValueError(f"{where}: expected a JSON object, got {short(of)}")
    value = of.get(key)
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_JSON[k] for k in kinds)
        got = short(value) if key in of else "none"
        raise ValueError(f"{where}: expected {wanted} {key!r}, got {got}")
    return value


_JSON = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def _begins_like_json(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(64).lstrip()[:1] in (b"{", b"[")
