"""Docstrings as this project writes them, for Griffe, which reads them for the documentation.

- One entry of "Args:" may be of several arguments. `stride, padding: ...` is to Griffe one argument
  of that name, which no signature has; here each is looked up, so that a name which is wrong is a
  warning, and they are shown in one line, as they were written.
- Several exceptions of one entry are shown without the brackets of a tuple.
- An example, lines that begin with `>>>`, is a block of code wherever it stands.
- A named tuple has a signature, its fields.
- What the package itself has, in backticks, is a link.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import griffe

_JOINT = re.compile(r"^( +)([*\w]+(?:,\s+[*\w]+)+):(?=\s)", re.M)
_SECTION = re.compile(r"(^(?:Args|Attributes):\n)((?: .*(?:\n|\Z)|\n)*)", re.M)
_JOINED = (griffe.DocstringSectionParameters, griffe.DocstringSectionAttributes)
_EXAMPLE = re.compile(r"(?:^Examples?:\n)?^( *)(>>> .*(?:\n\1\S.*)*)", re.M)


class Docstrings(griffe.Extension):
    """Gives every object a docstring of this project's."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Griffe calls this for every object, before its docstring is parsed."""
        if obj.docstring is not None:
            obj.docstring.__class__ = _Docstring

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Griffe calls this for every class once it has all its members."""
        if not any(str(base).rpartition(".")[2] == "NamedTuple" for base in cls.bases):
            return
        kind = griffe.ParameterKind.positional_or_keyword
        fields = [
            griffe.Parameter(one.name, annotation=one.annotation, kind=kind, default=one.value)
            for one in cls.attributes.values()
            if one.annotation is not None and "property" not in one.labels
        ]
        parameters = griffe.Parameters(griffe.Parameter("self", kind=kind), *fields)
        cls.set_member("__init__", griffe.Function("__init__", parameters=parameters, parent=cls))


class _Docstring(griffe.Docstring):
    def parse(self, *args: Any, **options: Any) -> list[griffe.DocstringSection]:
        """The sections of the text, with joint entries apart while Griffe looks at them."""
        written, joint = self.value, {}  # joint: by each name, those that share its entry
        text = _SECTION.sub(lambda match: match[1] + _apart(match[2], joint), _as_blocks(written))
        self.value = _linked(text, self.parent)
        try:
            sections = super().parse(*args, **options)
        finally:
            self.value = written
        for section in sections:
            if isinstance(section, _JOINED):
                groups = groupby(section.value, key=lambda one: joint.get(one.name, one.name))
                section.value = [_together(names, list(ones)) for names, ones in groups]
            elif isinstance(section, griffe.DocstringSectionRaises):
                for one in section.value:
                    one.annotation = str(one.annotation).strip("()")
        return sections


def _apart(entries: str, joint: dict[str, str]) -> str:
    def split(match: re.Match[str]) -> str:
        indent, names = match[1], " ".join(match[2].split())
        *others, last = names.split(", ")
        joint.update(dict.fromkeys((*others, last), names))
        return "".join(f"{indent}{name}: .\n" for name in others) + f"{indent}{last}:"

    return _JOINT.sub(split, entries)


def _as_blocks(text: str) -> str:
    def block(match: re.Match[str]) -> str:
        lines = "\n".join(line.removeprefix(match[1]) for line in match[2].splitlines())
        return f"```pycon\n{lines}\n```"

    return _EXAMPLE.sub(block, text)


def _linked(text: str, owner: griffe.Object | None) -> str:
    """`dense_crf`, where that is a name of the package's own, as a link to its place."""
    if owner is None:
        return text

    def link(match: re.Match[str]) -> str:
        member = owner.package.members.get(match[1])
        if match[1] == owner.name or member is None or not member.is_alias or member.is_module:
            return match[0]
        nearest = _in_scope(match[1], owner)
        other = nearest is not None and nearest.canonical_path != member.canonical_path
        return match[0] if other else f"[{match[0]}][{member.path}]"

    return re.sub(r"(?<![`\[])`(\w+)`(?!`)", link, text)


def _in_scope(name: str, owner: griffe.Object) -> griffe.Object | griffe.Alias | None:
    """What a name means in the class, module or package that the docstring stands in."""
    place: Any = owner
    while place.parent is not None:
        if name in place.members:
            found: griffe.Object | griffe.Alias = place.members[name]
            return found
        place = place.parent
    return None


def _together(names: str, ones: list[Any]) -> Any:
    """The last has the text. A type is shown where all have it, a default where it is of one."""
    last = ones[-1]
    if len(ones) > 1:
        last.name, last.value = names, None
        if len({str(one.annotation) for one in ones}) > 1:
            last.annotation = None
    return last
