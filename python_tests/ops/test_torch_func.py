"""`torch.func` over every op: transforms, alone and composed, against one call for each sample."""

from __future__ import annotations

import re

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp
from torch.utils import _pytree as pytree

from python_tests.ops.func_cases import CASES, NAMES, SAMPLES, Call, Case

pytestmark = pytest.mark.unsanitized  # kernels that other tests run, too


close = torch.testing.assert_close
without_warnings_of_torch = pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # its jvp's


def test_every_op_has_a_case():
    assert sorted({case.op for case in CASES}) == NAMES


@pytest.fixture(params=CASES, ids=str)
def case(request, device) -> Case:
    """An op on every device: its rule for vmap, and its gradients."""
    if request.param.only_cuda and request.node.callspec.params["device"] == "cpu":
        pytest.skip("has no CPU kernel")
    return request.param


@pytest.fixture(params=["cpu", "cuda"])
def one_device(request) -> torch.device:
    """Not emulated, for what no kernel has a part in."""
    return request.getfixturevalue("cuda") if request.param == "cuda" else torch.device("cpu")


@pytest.fixture(params=[case for case in CASES if not case.only_cuda], ids=str)
def case_on_one(request, one_device) -> Case:
    """An op where it is quickest, for what `_autograd.py` and `_batching.py` do alone."""
    return request.param


def calls_of(case: Case, device: torch.device) -> list[Call]:
    return [Call(case, device, seed) for seed in range(SAMPLES)]


def batches(calls: list[Call]) -> list[tuple[list[int], list[torch.Tensor]]]:
    """(which tensors have samples, the tensors): each alone, and all."""
    count = len(calls[0].tensors)
    found = []
    for batched in [*([i] for i in range(count)), list(range(count))]:
        stacked = [torch.stack([call.tensors[i] for call in calls]) for i in batched]
        if (batched, len(found)) != ([0], 1):
            found.append((batched, stacked))
    return found


def one_by_one(fn, *stacked: torch.Tensor):
    results = [fn(*(tensor[i] for tensor in stacked)) for i in range(SAMPLES)]
    return pytree.tree_map(lambda *samples: torch.stack(samples), *results)


def test_vmap(case, device):
    calls = calls_of(case, device)
    for batched, stacked in batches(calls):
        fn = calls[0].of(batched)
        close(torch.vmap(fn)(*stacked), one_by_one(fn, *stacked))


def test_vmap_of_other_dimensions(case_on_one, one_device):
    calls = calls_of(case_on_one, one_device)
    batched, stacked = batches(calls)[-1]
    fn = calls[0].of(batched)
    moved = [tensor.movedim(0, -1) for tensor in stacked]
    out = torch.vmap(fn, in_dims=-1, out_dims=-1, randomness="error")(*moved)
    close(tuple(result.movedim(-1, 0) for result in out), one_by_one(fn, *stacked))


def test_vmap_within_vmap(case_on_one, one_device):
    calls = calls_of(case_on_one, one_device)
    fn = calls[0].of([0])
    inner = torch.stack([call.tensors[0] for call in calls])
    outer = torch.stack([inner, inner.flip(0)])
    expected = [one_by_one(fn, one) for one in outer]
    close(torch.vmap(torch.vmap(fn))(outer), tuple(map(torch.stack, zip(*expected, strict=True))))
    if len(calls[0].tensors) > 1:  # each level another tensor
        both, other = calls[0].of([0, 1]), torch.stack([call.tensors[1] for call in calls])
        nested = torch.vmap(torch.vmap(both, (0, None)), (None, 0))(inner, other)
        expected = one_by_one(lambda b: one_by_one(lambda a: both(a, b), inner), other)
        close(nested, expected)


def test_vmap_of_no_samples(case_on_one, one_device):
    call = Call(case_on_one, one_device)
    fn = call.of([0])
    out = torch.vmap(fn)(call.tensors[0].new_empty(0, *call.tensors[0].shape))
    close(out, tuple(r.new_empty(0, *r.shape) for r in call(*call.tensors)))


def plain_gradients(scalar, tensors, wanted):
    tensors = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(tensors)]
    leaves = [tensors[i] for i in wanted]
    how = {"allow_unused": True, "materialize_grads": True}
    return torch.autograd.grad(scalar(*tensors), leaves, **how)


def refused(derivative, *args):
    with pytest.raises((RuntimeError, NotImplementedError)) as error:
        derivative(*args)
    assert re.search("no (forward-mode|second) derivative", str(error.value))


def test_grad(case_on_one, one_device):
    call = Call(case_on_one, one_device)
    scalar, tensors = (
        call.scalar(case_on_one.differentiable),
        [call.tensors[i] for i in case_on_one.differentiable],
    )
    argnums = tuple(range(len(tensors)))
    if not case_on_one.derivatives:
        return refused(grad(scalar, argnums), *tensors)
    expected = plain_gradients(scalar, tensors, argnums)
    close(grad(scalar, argnums)(*tensors), expected)
    _, pull = vjp(scalar, *tensors)
    close(pull(torch.ones((), device=one_device, dtype=torch.float64)), expected)


def test_gradients_of_samples(case, device):
    """vmap(grad): by what has samples, and by what they share."""
    calls = calls_of(case, device)
    for batched, stacked in batches(calls):
        shared = [i for i in case.differentiable if i not in batched]
        rest = [calls[0].tensors[i] for i in shared]
        wanted = [n for n, i in enumerate([*batched, *shared]) if i in case.differentiable]
        scalar = calls[0].scalar([*batched, *shared])
        dims = *[0] * len(batched), *[None] * len(shared)
        derivative = torch.vmap(grad(scalar, tuple(wanted)), dims)
        if not case.derivatives:
            refused(derivative, *stacked, *rest)
            continue
        expected = one_by_one(lambda *own: plain_gradients(scalar, (*own, *rest), wanted), *stacked)  # noqa: B023
        close(derivative(*stacked, *rest), expected)


def test_gradient_of_a_batch(case, device):
    """grad(vmap): what samples share sums their gradients."""
    calls = calls_of(case, device)
    positions = [0, *(i for i in case.differentiable if i != 0)]
    stacked = torch.stack([call.tensors[0] for call in calls])
    tensors = stacked, *(calls[0].tensors[i] for i in positions[1:])
    scalar, dims = calls[0].scalar(positions), (0, *[None] * len(positions[1:]))
    argnums = tuple(range(len(positions)))
    loss = grad(lambda *t: torch.vmap(scalar, dims)(*t).sum(), argnums)
    if not case.derivatives:
        return refused(loss, *tensors)
    looped = lambda first, *t: sum(scalar(one, *t) for one in first)  # noqa: E731
    close(loss(*tensors), plain_gradients(looped, tensors, argnums))


def test_jacrev(case_on_one, one_device):
    """Alone, and of every sample."""
    calls = calls_of(case_on_one, one_device)
    position = case_on_one.differentiable[-1]
    fn, stacked = calls[0].of([position]), torch.stack([c.tensors[position] for c in calls])

    def flat(tensor):  # some rows, as each is a backward pass
        return torch.cat([result.flatten()[:2] for result in fn(tensor)])

    if not case_on_one.derivatives:
        return refused(jacrev(flat), stacked[0])
    expected = torch.stack([torch.autograd.functional.jacobian(flat, one) for one in stacked])
    close(jacrev(flat)(stacked[0]), expected[0])
    close(jacrev(flat, chunk_size=1)(stacked[0]), expected[0])
    close(torch.vmap(jacrev(flat))(stacked), expected)


@without_warnings_of_torch
def test_forward_mode(case_on_one, one_device):
    """<u, J v> = <J^T u, v>, alone and for every sample."""
    calls = calls_of(case_on_one, one_device)
    positions = case_on_one.differentiable
    at, along = (tuple(call.tensors[i] for i in positions) for call in calls[:2])
    if not case_on_one.forward:
        refused(jvp, calls[0].of(positions), at, along)
        return refused(jacfwd(calls[0].of(positions)), *at)
    for some in [*([i] for i in range(len(positions))), list(range(len(positions)))]:
        fn = calls[0].of([positions[i] for i in some])
        primals, directions = (tuple(t[i] for i in some) for t in (at, along))
        out, tangents = jvp(fn, primals, directions)
        close(out, fn(*primals))
        _, pull = vjp(fn, *primals)
        u = tuple(torch.randn_like(result) for result in out)
        close(dot(u, tangents), dot(pull(u), directions))
        stacked = tuple(torch.stack([d, -d]) for d in directions)
        _, of_samples = torch.vmap(lambda *d: jvp(fn, primals, d))(*stacked)  # noqa: B023
        close(of_samples, tuple(torch.stack([t, -t]) for t in tangents))
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(p, d) for p, d in zip(primals, directions, strict=True)]
            found = [forward_ad.unpack_dual(result).tangent for result in fn(*duals)]
        close(tuple(found), tangents)


def dot(these, those):
    return sum((a * b).sum() for a, b in zip(these, those, strict=True))


@without_warnings_of_torch
def test_second_derivative(case_on_one, one_device):
    """Along two lines through all tensors, so that mixed derivatives count."""
    calls = calls_of(case_on_one, one_device)
    positions = case_on_one.differentiable
    scalar = calls[0].scalar(positions)
    at, *along = ([call.tensors[i] for i in positions] for call in calls)

    def on_plane(s):
        return scalar(*(t + s[0] * u + s[1] * v for t, u, v in zip(at, *along, strict=True)))

    s = torch.tensor([0.3, -0.2], dtype=torch.float64, device=one_device)
    if case_on_one.derivatives < 2:
        refused(grad(lambda s: grad(on_plane)(s).sin().sum()), s)
        return refused(hessian(on_plane), s)
    expected = torch.autograd.functional.hessian(on_plane, s)
    close(hessian(on_plane)(s), expected)
    close(jacrev(jacrev(on_plane))(s), expected)
