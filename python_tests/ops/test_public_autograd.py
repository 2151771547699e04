"""Gradients of the ops with what `torch.library` has in public alone, as of a torch to come."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
import torch
import torch.autograd.function

hidden = torch.autograd.function._SingleLevelFunction
if sys.argv[1] == "public":
    del torch.autograd.function._SingleLevelFunction

import deeplab_native as dn
from deeplab_native import _autograd

torch.autograd.function._SingleLevelFunction = hidden  # torch itself needs it
assert _autograd.HAS_NODES == (sys.argv[1] != "public")
generator = torch.Generator().manual_seed(0)


def rand(*shape):
    return torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()


image = torch.randint(0, 256, (1, 3, 9, 11), generator=generator).to(torch.uint8)
x, w1 = rand(2, 3, 9, 11), torch.tensor(4.0, requires_grad=True, dtype=torch.float64)
params = dn.CRFParams(w1, 30, 20, 3, 3)
kernels = [rand(5, 3, 3, 3) for _ in range(2)]
unary = rand(1, 4, 9, 11)
results = [
    dn.atrous_conv2d(x, kernels[0], rate=2, padding=2, algorithm="im2col"),
    dn.atrous_conv2d(x, kernels[0], rate=2, padding=2, algorithm="space_to_batch"),
    dn.aspp(x, kernels, None, rates=(1, 2)),
    dn.permutohedral_filter(x.flatten(2).mT, rand(99, 2).detach()),
    dn.dense_crf(unary, image, params, iterations=2),
    dn.dense_crf([unary, unary[0]], [image, image[0]], params, iterations=2)[1],
    dn.mean_field(unary.flatten(2), [(rand(99, 2).detach(), w1)], iterations=2),
]
for result in results:
    result.pow(2).sum().backward(retain_graph=True)
for tensor in (x, w1, unary, *kernels):
    assert tensor.grad.abs().sum() > 0
    print(tensor.grad.double().flatten().tolist())
"""


def run(how):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_gradients_are_the_same():
    assert run("public") == run("private")
