"""Every CUDA op once, on small inputs, forward and backward: what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python benchmarks/sanitizer_set.py
    python benchmarks/sanitizer_set.py --device cpu      # the same calls without a GPU
    python benchmarks/sanitizer_set.py --emulated        # on the emulated kernels

A tool makes a kernel up to a hundred times slower, so there are no loops and no large tensors. An
op that is never called is an error, and where the kernels run, so is a native function; an error of
a call is one at once. Every choice of the variants is run, on the small cases of its benchmark.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial, wraps

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import deeplab_native as dn
from _emulated import on_the_emulated_kernels
from _variant_cases import CASES
from deeplab_native import _C, _native, _variants, ops

LAYOUTS = (torch.contiguous_format, torch.channels_last)
Call = tuple  # a function and its tensors, all of them differentiable
RATES = (1, 2, 6)  # of the head


def convolutions(device: torch.device) -> Iterator[Call]:
    for layout in LAYOUTS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            new = partial(torch.randn, device=device, dtype=dtype)
            map = new(2, 6, 11, 13).contiguous(memory_format=layout)
            yield partial(dn.space_to_batch, rate=(2, 3), padding=1), map
            blocks = new(12, 6, 7, 5).contiguous(memory_format=layout)
            yield partial(dn.batch_to_space, rate=(2, 3), size=(11, 13), padding=1), blocks
            yield partial(dn.atrous_im2col, kernel_size=3, padding=2, rate=2), map
            native = ["im2col", "space_to_batch"] + ["direct"] * _native.on_cuda(map)
            for algorithm in ("auto", *native):
                conv = partial(dn.atrous_conv2d, padding=2, rate=2, algorithm=algorithm)
                yield conv, map, new(4, 6, 3, 3), new(4)


def heads(device: torch.device) -> Iterator[Call]:
    """`aspp` itself: the layer leaves float32 to separate convolutions by torch's settings."""
    for layout in LAYOUTS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            new = partial(torch.randn, device=device, dtype=dtype)
            map = new(2, 8, 9, 11).contiguous(memory_format=layout)
            yield fused, map, *(new(4, 8, 3, 3) for _ in RATES), *(new(4) for _ in RATES)
    new = partial(torch.randn, device=device)
    yield second_order, new(2, 8, 9, 11), *(new(4, 8, 3, 3) for _ in RATES)


def upsampling(device: torch.device) -> Iterator[Call]:
    for dtype in (torch.float32, torch.bfloat16):
        scores = torch.randn(2, 5, 4, 6, device=device, dtype=dtype)
        yield partial(dn.upsample_unary, size=(25, 41), crop=(23, 40)), scores


def crfs(device: torch.device) -> Iterator[Call]:
    for dtype in (torch.float32, torch.float64):
        new = partial(torch.randn, device=device, dtype=dtype)
        wide = torch.randn(60, 20, device=device) * 0.1
        yield partial(dn.permutohedral_filter, features=wide), new(60, 4)
        yield dn.permutohedral_filter, new(60, 4), wide.clone()
        for d in (2, 5):
            features = torch.randn(60, d, device=device)
            yield partial(dn.permutohedral_filter, features=features), new(60, 4)
            yield dn.permutohedral_filter, new(60, 5), features.clone()
            yield learned_features, new(1, 5, 60), features.clone()
            yield partial(dn.permutohedral_filter, features=features.repeat(1, 3)), new(60, 5)
            for labels in (2, 21, 150):  # each another kernel
                matrix = torch.eye(labels, device=device, dtype=dtype)
                kernels = [(features, 2.0), (features, matrix[0], "after"), (features, matrix)]
                for some in (kernels, kernels[:2]):  # of all labels, of those that matter
                    for precision in ("single", "half"):
                        how = {"kernels": some, "iterations": 2, "precision": precision}
                        yield partial(dn.mean_field, **how), new(1, labels, 60)
            exact = partial(dn.mean_field, algorithm="exact", iterations=2)
            for points in (60, 300):  # as they come, and sorted
                many = torch.randn(points, d, device=device, dtype=dtype)
                yield dn.gauss_transform, new(points, 21), many
                for precision in ("single", "half"):
                    how = {"kernels": [(many, 2.0)], "precision": precision}
                    yield partial(exact, **how), new(1, 21, points)
            kernels = [(features, 0.1)] * 9  # more than one launch works on
            yield partial(dn.mean_field, kernels=kernels, iterations=2), new(1, 3, 60)
        image = torch.randint(0, 255, (2, 3, 12, 9), device=device).to(torch.uint8)
        params = dn.CRFParams(4, 20, 10, 3, 1)
        crf = partial(dn.dense_crf, params=params, iterations=2)
        yield partial(crf, image=image), new(2, 5, 12, 9)
        yield partial(with_vertices, image=image, params=params), new(2, 5, 12, 9)
        yield partial(crf, image=image, scale=0.5), new(2, 5, 12, 9)
        yield partial(crf, image=image, algorithm="exact"), new(2, 5, 12, 9)
        yield partial(crf, image=image, sizes=[(12, 7), (5, 9)]), new(2, 5, 12, 9)
        loss = dn.DenseCRFLoss(1, 10, 20, 0.5)
        yield partial(loss, image), new(2, 5, 12, 9)
        walk = partial(dn.random_walk, sigma_rgb=10, sigma_xy=20, steps=2)
        yield partial(walk, image=image), new(2, 5, 12, 9)
        scan = torch.randint(0, 255, (2, 2, 3, 6, 5), device=device).to(torch.uint8)
        for scale in (1.0, 0.5):
            yield partial(crf, image=scan, scale=scale, spacing=(4, 1, 1)), new(2, 3, 3, 6, 5)


def learned_features(unary: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    return dn.mean_field(unary, [(features, 2.0), (features, 1.0, "before")], iterations=2)


def fused(input: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
    weights, biases = tensors[: len(RATES)], tensors[len(RATES) :]
    return dn.aspp(input, weights, biases or None, RATES)


def second_order(input: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    """Gradients as a function: its own backward is the only caller of `aspp_taps`."""
    out = fused(input, *weights)
    grads = torch.autograd.grad(out, (input, *weights), out.cos(), create_graph=True)
    return torch.cat([grad.flatten() for grad in grads])


def with_vertices(unary: torch.Tensor, image: torch.Tensor, params: dn.CRFParams) -> torch.Tensor:
    """`num_vertices` looks into the lattices, which nothing else does from Python."""
    vertices = dn.MeanField.from_image(unary.detach(), image, params).num_vertices
    return unary * float(len(vertices))


CALLS = [convolutions, heads, upsampling, crfs]


class Called(TorchDispatchMode):
    """Keeps the names of this package's ops that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        namespace, _, name = func.name().partition("::")
        if namespace == _native.NAMESPACE:
            self.names.add(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def native_functions() -> Iterator[dict[str, int]]:
    """How often each `_C.*_cuda` is called within."""
    counts = {name: 0 for name in dir(_C) if name.endswith("_cuda") and callable(getattr(_C, name))}
    originals = {name: getattr(_C, name) for name in counts}

    def counted(name: str) -> Callable:
        @wraps(originals[name])
        def call(*args: object, **named: object) -> object:
            counts[name] += 1
            return originals[name](*args, **named)

        return call

    for name in counts:
        setattr(_C, name, counted(name))
    try:
        yield counts
    finally:
        for name, original in originals.items():
            setattr(_C, name, original)


def forward_and_backward(fn: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> None:
    inputs = tuple(t.detach().requires_grad_() for t in inputs)
    out = fn(*inputs)
    torch.autograd.grad(out, inputs, torch.randn_like(out))
    if out.is_cuda:
        torch.cuda.synchronize()


def every_choice(device: torch.device) -> int:
    """Runs the cases of every switch with each of its choices; how many calls that were."""
    calls = 0
    for switch, cases in CASES.items():
        for choice in _variants.CHOICES[switch]:
            with _variants.use({switch: choice}):
                for case in cases(device, True):
                    case.fn(*case.inputs[0])
                    calls += 1
    if device.type == "cuda":
        torch.cuda.synchronize()
    return calls


def run(device: torch.device, kernels: bool) -> None:
    """Makes the calls; kernels: whether they go to the CUDA kernels. Exits where one is missing."""
    for module in pkgutil.iter_modules(ops.__path__):  # an op is known once it is imported
        importlib.import_module(f"{ops.__name__}.{module.name}")
    torch.manual_seed(0)
    calls, never = 0, set()
    with Called() as called, native_functions() as counts:
        for part in CALLS:
            for call in part(device):
                forward_and_backward(*call)
                calls += 1
        if kernels:
            calls += every_choice(device)
            never = {name for name, count in counts.items() if not count}
    print(f"{calls} calls, forward and backward, of {', '.join(sorted(called.names))}")
    never |= set(_native.CUDA_IMPLEMENTATIONS) - called.names
    if never:
        sys.exit(f"never called, add them to CALLS: {', '.join(sorted(never))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--emulated", action="store_true", help="on the emulated kernels")
    args = parser.parse_args()
    device = torch.device("cpu" if args.emulated else args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU, or a torch without CUDA")
    with on_the_emulated_kernels() if args.emulated else nullcontext():
        run(device, kernels=args.emulated or device.type == "cuda")


if __name__ == "__main__":
    main()
