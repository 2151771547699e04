"""What a pickle says, without doing it.

A pickle is a program: it names functions and classes, and calls them. Here nothing is imported and
nothing called. Numbers, strings, lists and dicts are made; whatever else a program would make is an
`Opaque`, which remembers its class and what it was to be made of. So a training checkpoint is read
though an `argparse.Namespace`, a NumPy scalar or a class of somebody's project lies beside the
tensors, and whether they can be imported here does not matter.

The instructions are decoded by the standard library's `pickletools`, which executes none of them.
Memory and time are bounded by the length of the file: each instruction makes at most one object.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

_MAX_INSTRUCTIONS = 3_000_000  # ResNet-101's state dict has some 30,000
_DICTS = {
    "collections.OrderedDict",
    "collections.defaultdict",
    "builtins.dict",
    "__builtin__.dict",
}
# They make an object of the class that is their first argument
_MAKERS = {"copyreg._reconstructor", "copy_reg._reconstructor", "copyreg.__newobj__"}
_FIXED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Instructions whose argument is the object
_ARGUMENTS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8",
}  # fmt: skip


class Stream(Protocol):
    """Bytes to be read one after the other: a file, a part of one in memory, a map of one."""

    def read(self, n: int = ...) -> bytes: ...  # noqa: D102
    def readline(self) -> bytes: ...  # noqa: D102
    def tell(self) -> int: ...  # noqa: D102


@dataclass(eq=False, repr=False)  # nested tuples could be long beyond measure
class Opaque:
    """What was not made.

    Attributes:
        name: the class or function, "module.name"; of a reference to something outside of the
            pickle `PERSISTENT`.
        args: what it was to be called with; of a reference what it says.
        state: its attributes, where they were set.
        items: by key, where it was filled as a dict; of a set, by its members.
    """

    name: str
    args: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)
    items: dict[Any, Any] = field(default_factory=dict)


PERSISTENT = "a persistent id"


class DamagedError(ValueError):
    """What is wrong with a file, without its name."""


class Program:
    """One pickle; `references` are the persistent ids in it, as they came."""

    def __init__(self) -> None:
        self.references: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []

    def read(self, stream: Stream) -> Any:
        """The object of the pickle that begins where `stream` is; then it is behind it.

        Raises `DamagedError` where there is no whole pickle, or one too long for a checkpoint's.
        """
        try:
            for count, (code, argument, _) in enumerate(pickletools.genops(_as_file(stream))):
                if count >= _MAX_INSTRUCTIONS:
                    raise DamagedError(f"a pickle of more than {_MAX_INSTRUCTIONS} instructions")
                self._step(code.name, argument)
            return self._stack.pop()
        except DamagedError:
            raise
        # of instructions that do not fit one another, each its own
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise DamagedError(
                f"a damaged pickle: {str(error) or type(error).__name__:.100}"
            ) from None

    def _step(self, name: str, argument: Any) -> None:
        if name in _ARGUMENTS:
            self._stack.append(argument)
        elif name in _FIXED:
            self._stack.append(_FIXED[name])
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP", "READONLY_BUFFER"):
            raise DamagedError(f"a pickle with {name}, which no checkpoint has")

    def _collected(self) -> list[Any]:
        """What was put on the stack since the last mark."""
        collected, self._stack = self._stack, self._marks.pop()
        return collected

    def _mark(self, _: Any) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _tuple(self, n: int | None) -> None:
        if n is None:
            collected = self._collected()  # which gives another stack
            self._stack.append(tuple(collected))
        else:
            last = self._stack[-n:]
            if len(last) != n:
                raise IndexError
            self._stack[-n:] = [tuple(last)]

    def _list(self, _: Any) -> None:
        collected = self._collected()
        self._stack.append(collected)

    def _dict(self, _: Any) -> None:
        collected = self._collected()
        self._stack.append({})
        self._fill(collected)

    def _fill(self, flat: list[Any]) -> None:
        """Keys and values, one after the other, into what lies on top."""
        target = self._stack[-1]
        items = target.items if isinstance(target, Opaque) else target
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            items[_key(key)] = value

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._fill([key, value])

    def _setitems(self, _: Any) -> None:
        self._fill(self._collected())

    def _append(self, _: Any) -> None:
        self._extend([self._stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._collected())

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def _set(self, _: Any) -> None:
        self._stack.append(Opaque("builtins.set"))

    def _additems(self, _: Any) -> None:
        for item in self._collected():
            self._fill([item, None])

    def _pop_mark(self, _: Any) -> None:
        self._collected()

    def _frozenset(self, _: Any) -> None:
        self._collected()
        self._stack.append(Opaque("builtins.frozenset"))

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._collected()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _get(self, argument: Any) -> None:
        self._stack.append(self._memo[argument])

    def _put(self, argument: Any) -> None:
        self._memo[len(self._memo) if argument is None else argument] = self._stack[-1]

    def _global(self, argument: str) -> None:
        self._stack.append(Opaque(_name(argument)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError
        self._stack.append(Opaque(_name(f"{module} {name}")))

    def _extension(self, argument: int) -> None:
        self._stack.append(Opaque(f"copyreg extension {argument}"))

    def _reduce(self, _: Any) -> None:
        args, function = self._stack.pop(), self._stack.pop()
        self._make(function, args)

    def _newobj_ex(self, _: Any) -> None:
        self._stack.pop()
        self._reduce(None)

    def _obj(self, _: Any) -> None:
        function, *args = self._collected()
        self._make(function, tuple(args))

    def _inst(self, argument: str) -> None:
        self._make(Opaque(_name(argument)), tuple(self._collected()))

    def _make(self, function: Any, args: Any) -> None:
        if not isinstance(function, Opaque) or not isinstance(args, tuple):
            raise TypeError
        if function.name in _DICTS:
            self._stack.append({})
            pairs = args[0] if args else None  # Python 2 gives an OrderedDict its pairs
            if isinstance(pairs, list):
                self._fill([part for pair in pairs for part in _pair(pair)])
        elif function.name in _MAKERS and args and isinstance(args[0], Opaque):
            self._stack.append(Opaque(args[0].name))
        else:
            self._stack.append(Opaque(function.name, args))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Opaque):
            # attributes, and those of slots
            for part in state if isinstance(state, tuple) else (state,):
                if isinstance(part, dict):
                    self._stack[-1].state.update(part)

    def _persistent(self, argument: Any) -> None:
        reference = self._stack.pop() if argument is None else argument
        self.references.append(reference)
        self._stack.append(Opaque(PERSISTENT, (reference,)))


def _key(key: Any) -> Any:
    """A key whose hash takes no time, as that of tuples in tuples, or of long numbers, might."""
    plain = isinstance(key, str | float | bytes | type(None))
    return key if plain or (isinstance(key, int) and key.bit_length() < 64) else Opaque("a key")


def _name(argument: str) -> str:
    """What a pickle calls "module name", as a class is named, and short enough for a message."""
    return argument.replace(" ", ".")[:100]


def _pair(pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise TypeError
    return pair[0], pair[1]


def _as_file(stream: Stream) -> IO[bytes]:
    """For type checkers: pickletools asks for no more than `Stream` has."""
    return stream  # type: ignore[return-value]


_STEPS: dict[str, Callable[[Program, Any], None]] = {
    "MARK": Program._mark, "POP": Program._pop, "POP_MARK": Program._pop_mark,
    "DUP": Program._dup,
    "TUPLE": Program._tuple, "TUPLE1": lambda p, _: p._tuple(1),
    "TUPLE2": lambda p, _: p._tuple(2), "TUPLE3": lambda p, _: p._tuple(3),
    "EMPTY_LIST": lambda p, _: p._stack.append([]), "LIST": Program._list,
    "APPEND": Program._append, "APPENDS": Program._appends,
    "EMPTY_DICT": lambda p, _: p._stack.append({}), "DICT": Program._dict,
    "SETITEM": Program._setitem, "SETITEMS": Program._setitems,
    "EMPTY_SET": Program._set, "ADDITEMS": Program._additems, "FROZENSET": Program._frozenset,
    "GET": Program._get, "BINGET": Program._get, "LONG_BINGET": Program._get,
    "PUT": Program._put, "BINPUT": Program._put, "LONG_BINPUT": Program._put,
    "MEMOIZE": Program._put,
    "GLOBAL": Program._global, "STACK_GLOBAL": Program._stack_global,
    "EXT1": Program._extension, "EXT2": Program._extension, "EXT4": Program._extension,
    "REDUCE": Program._reduce, "NEWOBJ": Program._reduce, "NEWOBJ_EX": Program._newobj_ex,
    "OBJ": Program._obj, "INST": Program._inst, "BUILD": Program._build,
    "PERSID": Program._persistent, "BINPERSID": Program._persistent,
}  # fmt: skip
