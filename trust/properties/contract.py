"""The promise: the right result and nothing else touched, or an error that names the argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from . import progress
from .specs import made

ERRORS = (TypeError, ValueError, IndexError, OverflowError, MemoryError)
# what torch itself says of too little memory, and of inference tensors that autograd would need
_OF_TORCH = re.compile(
    r"can't allocate memory|not enough memory|(Storage size|Stride) calculation overflowed|"
    r"^Inference tensors cannot be saved for backward",
    re.I,
)


@dataclass(frozen=True)
class Expected:
    """What a reference says of one result.

    Attributes:
        values: array of what it should be.
        bound: how far it may be off, a number or one for each value; where it is not finite,
            nothing is asked.
        exact: whether the bits have to be the same; NaN is NaN.
    """

    values: Any
    bound: Any = 0.0
    exact: bool = False


@dataclass(frozen=True)
class Property:
    """What is promised of a public name.

    Attributes:
        covers: public names, as "dense_crf" or "layers.ASPP", which it tries.
        call: takes the arguments by name.
        valid: strategy of arguments that have to be taken.
        reference: of the same arguments one `Expected` for each tensor or array of the result, or
            None where there is none; raises where they mean nothing.
        names: what errors may name besides the arguments.
        errors: what may be raised besides `ERRORS`, with a regular expression of the message.
        shares: whether the result may be a view of the arguments.
        hostile: strategies of wrong values for single arguments, in place of those for everything;
            None for one that is never wrong.
        aliases: (argument, another whose memory it may be a view of).
    """

    name: str
    covers: tuple[str, ...]
    call: Callable[..., Any]
    valid: Any
    reference: Callable[..., list[Expected] | None]
    names: tuple[str, ...] = ()
    errors: tuple[tuple[type[BaseException], str], ...] = ()
    shares: bool = False
    hostile: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[tuple[str, str], ...] = ()


def check(prop: Property, specs: dict[str, Any], *, usual: bool, threads: int = 1) -> None:
    """Raises AssertionError where a call breaks the promise.

    Args:
        specs: arguments or descriptions of them.
        usual: whether they have to be taken.
        threads: of torch, which both calls have.
    """
    progress.now(prop.name, specs, threads)
    torch.set_num_threads(threads)
    arguments = made(specs)
    before = _memory(arguments)
    try:
        first = prop.call(**arguments)
    except Exception as error:
        _same_memory(before, _memory(arguments))
        if usual:
            raise AssertionError(f"valid arguments were refused: {error!r}") from error
        _check_error(prop, error, specs)
        progress.refused()
        return
    _same_memory(before, _memory(arguments))
    results = list(leaves(first))
    if not prop.shares:
        _not_shared(results, arguments)
    second = list(leaves(prop.call(**arguments)))
    _same_bits(results, second)
    _same_memory(before, _memory(arguments))
    try:
        expected = prop.reference(**arguments)
    except Exception as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return  # the reference makes the whole map, of which a part was asked for
        raise AssertionError(f"taken, though it means nothing: {error!r}") from error
    if expected is not None:
        compare(results, expected)


def _check_error(prop: Property, error: Exception, specs: dict[str, Any]) -> None:
    message = str(error)
    for kind, pattern in prop.errors:
        if type(error) is kind and re.search(pattern, message):
            return
    if isinstance(error, RuntimeError) and _OF_TORCH.search(message):
        return
    assert isinstance(error, ERRORS), f"{type(error).__name__} is not documented: {message}"
    if isinstance(error, MemoryError):
        return
    names = {*specs, *prop.names}
    named = any(re.search(rf"\b{re.escape(name)}\b", message) for name in names)
    assert named, f"the message names no argument: {type(error).__name__}: {message}"


def leaves(value: Any) -> Iterator[Any]:
    """Tensors, arrays and numbers within a result."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from leaves(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from leaves(one)
    elif isinstance(value, (int, float, np.generic)):
        yield np.asarray(value)


def _memory(value: Any) -> list[bytes]:
    """The bytes of everything that the tensors and arrays are views of."""
    found = []
    for leaf in leaves(value):
        if isinstance(leaf, torch.Tensor):
            if leaf.device.type != "cpu" or leaf.layout != torch.strided:
                continue
            storage = leaf.untyped_storage()
            size = storage.nbytes()
            if size:
                raw = torch.empty(0, dtype=torch.uint8).set_(storage)
                found.append(raw.numpy().tobytes())
        else:
            base = leaf
            while isinstance(base.base, np.ndarray):
                base = base.base
            found.append(base.tobytes())
    return found


def _same_memory(before: Iterable[bytes], after: Iterable[bytes]) -> None:
    assert list(before) == list(after), "an argument was written to"


def _not_shared(results: Iterable[Any], arguments: dict[str, Any]) -> None:
    taken = {span for a in leaves(arguments) for span in _span(a)}
    for result in results:
        for start, end in _span(result):
            for low, high in taken:
                assert end <= low or high <= start, "the result shares memory with an argument"


def _span(leaf: Any) -> list[tuple[int, int]]:
    if isinstance(leaf, torch.Tensor):
        if leaf.device.type != "cpu" or leaf.layout != torch.strided or leaf.numel() == 0:
            return []
        storage = leaf.untyped_storage()
        return [(storage.data_ptr(), storage.data_ptr() + storage.nbytes())]
    if leaf.size == 0:
        return []
    low, high = np.lib.array_utils.byte_bounds(leaf)
    return [(low, high)]


def _as_array(leaf: Any) -> np.ndarray:
    if isinstance(leaf, torch.Tensor):
        leaf = leaf.detach().resolve_conj().resolve_neg()
        if leaf.dtype == torch.bfloat16:
            leaf = leaf.float()
        return leaf.numpy()
    return np.asarray(leaf)


def _same_bits(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        if isinstance(a, torch.Tensor) and (a.device.type == "meta" or a.numel() == 0):
            continue
        assert _as_array(a).tobytes() == _as_array(b).tobytes(), "another result at the second call"


def compare(results: list[Any], expected: list[Expected]) -> None:
    """Raises AssertionError where results are not what is expected."""
    assert len(results) == len(expected), f"{len(results)} results, not {len(expected)}"
    for result, wanted in zip(results, expected, strict=True):
        shape = tuple(np.shape(wanted.values))
        assert tuple(result.shape) == shape, f"{tuple(result.shape)}, not {shape}"
        if 0 in shape or (isinstance(result, torch.Tensor) and result.device.type == "meta"):
            continue
        got, values = _as_array(result), _as_array(wanted.values)
        if wanted.exact:
            np.testing.assert_array_equal(got, values)
            continue
        bound = np.broadcast_to(np.asarray(_as_array(wanted.bound), np.float64), values.shape)
        asked = np.isfinite(bound) & np.isfinite(values)
        got, values = got[asked].astype(np.float64), values[asked].astype(np.float64)
        assert np.isfinite(got).all(), "not finite where the reference is"
        with np.errstate(invalid="ignore"):
            off = np.abs(got - values) - bound[asked]
        assert not off.size or off.max() <= 0, f"off by {off.max():.3g} more than {bound.max():.3g}"
