"""The autograd kernel of an op: backward and forward mode, alone and under `torch.func`.

`torch.library.register_autograd` makes kernels that know backward mode alone and that the
transforms of `torch.func` refuse. Here one node is made per call, as torch's own operators do:
under a transform it belongs to the transform's level, and what the kernel hands on goes through
the dispatcher to the next level. So `grad`, `vjp`, `jvp`, `vmap` and their compositions need
nothing of an op but its formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch.autograd import forward_ad

try:  # what torch.library and torch.func are made of, from torch 2.6 to 2.14 at the least
    from torch._C import (
        _after_autograd_keyset,
        _are_functorch_transforms_active,
        _AutoDispatchBelowAutograd,
    )
    from torch._C._functorch import (
        TransformType,
        is_functorch_wrapped_tensor,
        peek_interpreter_stack,
    )
    from torch._functorch.utils import enable_single_level_autograd_function
    from torch.autograd.function import _SingleLevelFunction

    HAS_NODES = True
except ImportError:  # of a torch to come: `torch.library.register_autograd`, without torch.func
    HAS_NODES = False

Backward = Callable[..., Any]  # (ctx, *grads) -> a gradient or None for each argument
SetupContext = Callable[..., None]  # (ctx, inputs, output)
Tangents = Callable[..., Any]  # (op, args, tangents) -> those of the results

transforms_active: Callable[[], bool]
transforms_active = _are_functorch_transforms_active if HAS_NODES else lambda: False
"""Whether the code runs within a transform of `torch.func`."""


class _Call:
    """One call: where it goes next, and which of the flat arguments and results form lists."""

    __slots__ = ("duals", "keyset", "lists", "results", "transformed")

    def __init__(self, keyset: Any, lists: dict[int, int], transformed: bool) -> None:
        self.keyset, self.transformed = keyset, transformed
        self.lists = lists  # position of each list of tensors among the arguments: its length
        self.results: list[int | None] = []  # the length of each result that is a list
        self.duals: list[bool] | None = None  # in forward mode: flat arguments that have a tangent

    def nested(self, flat: Sequence[Any]) -> list[Any]:
        """The arguments, or something for each of them, in their lists."""
        if not self.lists:
            return list(flat)
        items, args = iter(flat), []
        left = len(flat) - sum(self.lists.values())
        for i in range(left + len(self.lists)):
            length = self.lists.get(i)
            args.append(next(items) if length is None else [next(items) for _ in range(length)])
        return args

    def flat(self, values: Sequence[Any]) -> Sequence[Any]:
        """What `nested` was made of; None stands for a whole list of it."""
        if not self.lists:
            return values
        flat: list[Any] = []
        for i, value in enumerate(values):
            if i not in self.lists:
                flat.append(value)
            else:
                flat.extend([None] * self.lists[i] if value is None else value)
        return flat

    def flat_results(self, output: Any) -> Any:
        """One tensor, or a tuple of them; notes the lists."""
        if isinstance(output, torch.Tensor):
            self.results = []
            return output
        outputs = output if isinstance(output, tuple) else (output,)
        self.results = [len(o) if isinstance(o, list) else None for o in outputs]
        flat: list[torch.Tensor] = []
        for o in outputs:
            flat.extend(o if isinstance(o, list) else [o])
        return tuple(flat)

    def nested_results(self, flat: Sequence[Any]) -> list[Any]:
        """The results, or something for each of them, in their lists."""
        if not self.results:
            return list(flat)
        items = iter(flat)
        return [
            next(items) if length is None else [next(items) for _ in range(length)]
            for length in self.results
        ]


@contextmanager
def _for_the_next_level() -> Iterator[None]:
    """Undoes what a node's forward turned off: other levels have derivatives of their own."""
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
        yield


def register_autograd(
    library: torch.library.Library,
    op: torch._ops.OpOverload,
    backward: Backward,
    setup_context: SetupContext | None,
    tangents: Tangents | None,
) -> None:
    """Of an op of the library; the arguments are those of `autograd_kernel`."""
    if not HAS_NODES:
        torch.library.register_autograd(op, backward, setup_context=setup_context, lib=library)
        return
    kernel = autograd_kernel(op, backward, setup_context, tangents)
    library.impl(op._schema.name.partition("::")[2], kernel, "Autograd", with_keyset=True)


def autograd_kernel(
    op: torch._ops.OpOverload,
    backward: Backward,
    setup_context: SetupContext | None,
    tangents: Tangents | None,
) -> Callable[..., Any]:
    """The kernel for the dispatch key "Autograd", to be registered `with_keyset`.

    backward, setup_context: as of `torch.library.register_autograd`. tangents(op, args, tangents):
    forward mode, of the arguments as the op has them and their tangents (None where there is
    none); gives the tangents of the results, in their form.
    """
    name = op._schema.name.partition("::")[2]
    arguments = [str(a.type) for a in op._schema.arguments]
    list_positions = [i for i, kind in enumerate(arguments) if kind == "List[Tensor]"]
    single_list = [str(r.type) for r in op._schema.returns] == ["List[Tensor]"]
    redispatch = op.redispatch

    # not torch.autograd.Function, whose apply makes a node for every level by itself, above the
    # dispatcher; this is what it makes them of
    class Node(_SingleLevelFunction):
        _compiled_autograd_key = staticmethod(torch.autograd.Function._compiled_autograd_key)

        @staticmethod
        def forward(ctx: Any, call: _Call, *flat: Any) -> Any:
            args = call.nested(flat)
            ctx.call = call
            with _AutoDispatchBelowAutograd():
                if call.transformed:
                    with _for_the_next_level():
                        output = redispatch(call.keyset & _after_autograd_keyset, *args)
                else:
                    output = redispatch(call.keyset & _after_autograd_keyset, *args)
                if setup_context is not None:
                    needs = ctx.needs_input_grad
                    ctx.needs_input_grad = call.nested(needs[1:])
                    setup_context(ctx, tuple(args), output)
                    ctx.needs_input_grad = needs
            if call.duals is not None:
                ctx.args = args
            return call.flat_results(output)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            call, needs = ctx.call, ctx.needs_input_grad
            try:
                ctx.needs_input_grad = call.nested(needs[1:])
                of_args = backward(ctx, *call.nested_results(grads))
            finally:
                ctx.needs_input_grad = needs
            return (None, *call.flat(of_args))

        @staticmethod
        def jvp(ctx: Any, _: None, *flat: Any) -> Any:
            call, args = ctx.call, ctx.args
            del ctx.args
            if tangents is None:
                raise NotImplementedError(
                    f"{name}: has no forward-mode derivative (torch.func.jvp, jacfwd, hessian); "
                    "use reverse mode: torch.func.vjp, grad or jacrev"
                )
            known = [t if dual else None for t, dual in zip(flat, call.duals, strict=True)]
            return call.flat_results(tangents(op, args, call.nested(known)))

    grad_fn = Node._backward_cls
    grad_fn.__name__ = grad_fn.__qualname__ = f"{op._namespace}_{name}_backward"
    apply: Callable[..., Any] = Node.apply  # type: ignore[attr-defined]

    def with_node(keyset: Any, args: tuple[Any, ...], forward: bool) -> Any:
        transformed = transforms_active()
        call = _Call(keyset, {i: len(args[i]) for i in list_positions}, transformed)
        flat = call.flat(args)
        if forward:
            call.duals = [_has_tangent(a) for a in flat]
        if transformed:
            with enable_single_level_autograd_function():
                output = apply(call, *flat)
        else:
            output = apply(call, *flat)
        if not call.results:
            return output
        nested = call.nested_results(output)
        return nested[0] if single_list else tuple(nested)

    def kernel(keyset: Any, *args: Any) -> Any:
        forward = forward_mode() and any(map(_has_tangent, _flat(args)))
        if forward or (torch.is_grad_enabled() and _any_requires_grad(*args)):
            return with_node(keyset, args, forward)
        with _AutoDispatchBelowAutograd():
            return redispatch(keyset & _after_autograd_keyset, *args)

    return kernel


def no_gradient(name: str, needed: Any) -> None:
    """Raises where a backward is asked for what it cannot give; `needed` as `needs_input_grad`.

    The public functions say so at once, but within `vmap` they do not see what is differentiated.
    """
    if any(needed) if isinstance(needed, (list, tuple)) else needed:
        raise ValueError(f"{name}: no gradient with respect to {name}; pass {name}.detach()")


def linear(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """Forward mode of an op that is linear in its first argument, its only differentiable one."""
    return op(tangents[0], *args[1:])


def _any_wants_grad(*args: Any) -> bool:
    return any(isinstance(a, torch.Tensor) and a.requires_grad for a in _flat(args))


_any_requires_grad: Callable[..., bool]  # torch 2.6 has none
_any_requires_grad = getattr(torch._C, "_any_requires_grad", _any_wants_grad)


def forward_mode() -> bool:
    """Whether there may be tangents."""
    if not HAS_NODES:
        return False
    if forward_ad._current_level >= 0:
        return True
    # within compiled code the transform is there, and not the number that its Python sets
    return transforms_active() and peek_interpreter_stack().key() == TransformType.Jvp


def has_wrapper(tensor: torch.Tensor) -> bool:
    """Whether a tensor belongs to a transform of `torch.func`."""
    return HAS_NODES and is_functorch_wrapped_tensor(tensor)


def _flat(args: Sequence[Any]) -> Iterator[Any]:
    for arg in args:
        if isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], torch.Tensor):
            yield from arg
        else:
            yield arg


def _has_tangent(arg: Any) -> bool:
    if not isinstance(arg, torch.Tensor) or not arg.is_floating_point():
        return False
    _, tangent = torch._VF._unpack_dual(arg, level=0)
    return tangent is not None


def below_autograd() -> AbstractContextManager[Any]:
    """Within, calls go past the autograd kernel: where no level of no transform wants it."""
    return _AutoDispatchBelowAutograd() if HAS_NODES else nullcontext()
