"""Every CUDA op once, on small inputs, forward and backward: what compute-sanitizer watches.

    compute-sanitizer --tool memcheck python benchmarks/sanitizer_set.py
    python benchmarks/sanitizer_set.py --device cpu      # the same calls without a GPU

A tool makes a kernel up to a hundred times slower, so there are no loops and no large tensors. An
op without a CUDA kernel is named and left out; any other error is one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import deeplab_native as dn
from deeplab_native import _native, layers

LAYOUTS = (torch.contiguous_format, torch.channels_last)
Call = tuple  # a function and its tensors, all of them differentiable


def convolutions(device: torch.device) -> Iterator[Call]:
    for layout in LAYOUTS:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            new = partial(torch.randn, device=device, dtype=dtype)
            map = new(2, 6, 11, 13).contiguous(memory_format=layout)
            yield partial(dn.space_to_batch, rate=(2, 3), padding=1), map
            blocks = new(12, 6, 7, 5).contiguous(memory_format=layout)
            yield partial(dn.batch_to_space, rate=(2, 3), size=(11, 13), padding=1), blocks
            yield partial(dn.atrous_im2col, kernel_size=3, padding=2, rate=2), map
            native = ["im2col", "space_to_batch"] + ["direct"] * (device.type == "cuda")
            for algorithm in ("auto", *native):
                conv = partial(dn.atrous_conv2d, padding=2, rate=2, algorithm=algorithm)
                yield conv, map, new(4, 6, 3, 3), new(4)
        head = layers.ASPP(8, 4).to(device)
        yield head, torch.randn(1, 8, 9, 11, device=device).contiguous(memory_format=layout)


def upsampling(device: torch.device) -> Iterator[Call]:
    for dtype in (torch.float32, torch.bfloat16):
        scores = torch.randn(2, 5, 4, 6, device=device, dtype=dtype)
        yield partial(dn.upsample_unary, size=(25, 41), crop=(23, 40)), scores


def crfs(device: torch.device) -> Iterator[Call]:
    for dtype in (torch.float32, torch.float64):
        new = partial(torch.randn, device=device, dtype=dtype)
        for d in (2, 5):
            features = torch.randn(60, d, device=device)
            yield partial(dn.permutohedral_filter, features=features), new(60, 4)
            yield partial(dn.permutohedral_filter, features=features.repeat(1, 4)), new(60, 5)
            for labels in (2, 21, 150):  # each another kernel
                matrix = torch.eye(labels, device=device, dtype=dtype)
                kernels = [(features, 2.0), (features, matrix[0], "after"), (features, matrix)]
                yield partial(dn.mean_field, kernels=kernels, iterations=2), new(1, labels, 60)
            kernels = [(features, 0.1)] * 9  # more than one launch works on
            yield partial(dn.mean_field, kernels=kernels, iterations=2), new(1, 3, 60)
        image = torch.randint(0, 255, (2, 3, 12, 9), device=device).to(torch.uint8)
        params = dn.CRFParams(4, 20, 10, 3, 1)
        yield partial(dn.dense_crf, image=image, params=params, iterations=2), new(2, 5, 12, 9)


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


def forward_and_backward(fn: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> None:
    inputs = tuple(t.detach().requires_grad_() for t in inputs)
    out = fn(*inputs)
    torch.autograd.grad(out, inputs, torch.randn_like(out))
    if out.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    device = torch.device(parser.parse_args().device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU, or a torch without CUDA")
    torch.manual_seed(0)
    calls, missing = 0, set()
    with Called() as called:
        for call in (*convolutions(device), *upsampling(device), *crfs(device)):
            try:
                forward_and_backward(*call)
                calls += 1
            except RuntimeError as error:
                if "has no CUDA kernel yet" not in str(error):
                    raise
                missing.add(str(error).partition(":")[0])
    print(f"{calls} calls, forward and backward, of {', '.join(sorted(called.names))}")
    if missing:
        print("without a CUDA kernel:", ", ".join(sorted(missing)))
    if never := set(_native.CUDA_IMPLEMENTATIONS) - called.names - missing:
        print("never called; add them here:", ", ".join(sorted(never)))


if __name__ == "__main__":
    main()
