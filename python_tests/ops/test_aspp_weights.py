"""The fused head computes with the weights as they are now, however they were changed or moved.

Their copies in panels live for one call: these tests would find any that lives longer.
"""

from __future__ import annotations

import copy
import io

import pytest
import torch

from deeplab_native.layers import ASPP
from python_tests.ops import reference

RATES = (1, 2, 3, 4)


@pytest.fixture
def head(monkeypatch) -> ASPP:
    """A small one, fused as large ones are."""
    monkeypatch.setattr("deeplab_native.layers.aspp._is_faster_fused", lambda *_: True)
    torch.manual_seed(0)
    head = ASPP(5, 3, RATES)
    for branch in head.branches():
        torch.nn.init.normal_(branch.weight)
        torch.nn.init.normal_(branch.bias)
    return head


def check(head: torch.nn.Module, input: torch.Tensor, of: ASPP | None = None) -> torch.Tensor:
    """That the head, or what is made of it, gives the sum of its branches; returns that."""
    branches = (head if of is None else of).branches()
    weights, biases = ([getattr(b, p).detach() for b in branches] for p in ("weight", "bias"))
    expected = reference.aspp(input, weights, biases, RATES)
    torch.testing.assert_close(head(input).detach(), expected, rtol=1e-4, atol=1e-4)
    return expected


def optimise(head, input):
    optimiser = torch.optim.SGD(head.parameters(), lr=1.0)
    head(input).square().mean().backward()
    optimiser.step()


def write_through_data(head, input):
    head.c0.weight.data.mul_(-2)  # does not raise the version of the parameter


def write_through_numpy(head, input):
    head.c1.weight.detach().numpy()[:] += 1  # no tensor knows of this


def write_in_place(head, input):
    with torch.no_grad():
        head.c2.weight.add_(1)
        head.c3.bias.zero_()


def write_in_inference_mode(head, input):
    with torch.inference_mode():
        head.c2.weight.add_(1)


def load(head, input):
    state = {name: torch.randn_like(tensor) for name, tensor in head.state_dict().items()}
    head.load_state_dict(state)


def load_by_assignment(head, input):
    state = {name: torch.randn_like(tensor) for name, tensor in head.state_dict().items()}
    head.load_state_dict(state, assign=True)


def replace(head, input):
    head.c1.weight = torch.nn.Parameter(torch.randn_like(head.c1.weight))


def swap_in_the_same_memory(head, input):
    """Where the old weight was, another one lies."""
    memory = head.c0.weight.detach()
    head.c0.weight = torch.nn.Parameter(torch.empty(0))
    head.c0.weight = torch.nn.Parameter(memory.copy_(torch.randn(memory.shape)))


def initialise_again(head, input):
    head.reset_parameters()


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        optimise,
        write_through_data,
        write_through_numpy,
        write_in_place,
        write_in_inference_mode,
        load,
        load_by_assignment,
        replace,
        swap_in_the_same_memory,
        initialise_again,
    ],
    ids=lambda change: change.__name__,
)
def test_weights_that_change(change, grad, head):
    input = torch.randn(2, 5, 9, 8)
    with torch.set_grad_enabled(grad):
        before = check(head, input)
        with torch.enable_grad():
            change(head, input)
        assert not torch.allclose(check(head, input), before)


def test_weights_in_inference_mode(head):
    with torch.inference_mode():
        input = torch.randn(1, 5, 9, 8)
        check(head, input)
        made_here = copy.deepcopy(head)  # inference tensors have no version to look at
        made_here.c0.weight.mul_(2)
        check(made_here, input)
        check(head, input)


def test_copies_are_independent(head):
    input = torch.randn(1, 5, 9, 8)
    check(head, input)
    memory = io.BytesIO()
    torch.save(head, memory)
    memory.seek(0)
    for other in (copy.deepcopy(head), torch.load(memory, weights_only=False)):
        with torch.no_grad():
            other.c0.weight.add_(1)
        assert not torch.allclose(check(other, input), check(head, input))


def test_other_dtypes_and_back(head):
    input = torch.randn(1, 5, 9, 8)
    with torch.no_grad():
        check(head, input)
        check(head.to(torch.float64), input.double())
        head.c0.weight.mul_(3)
        check(head.float(), input)
        check(head.to(memory_format=torch.channels_last), input)


def test_compiled(head):
    compiled = torch.compile(head, fullgraph=True, backend="aot_eager")
    input = torch.randn(1, 5, 9, 8)
    for change in (write_through_data, write_in_place, optimise):
        check(compiled, input, of=head)
        change(head, input)
    with torch.no_grad():
        check(compiled, input, of=head)


def test_functional_call(head):
    """Stateless calls, as of torch.func: other weights for one call."""
    input = torch.randn(1, 5, 9, 8)
    expected = check(head, input)
    others = {name: 2 * tensor.detach() for name, tensor in head.named_parameters()}
    out = torch.func.functional_call(head, others, (input,))
    torch.testing.assert_close(out, 2 * expected, rtol=1e-4, atol=1e-4)
    check(head, input)
