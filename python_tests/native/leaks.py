"""Calls every op and the drop-in again and again, and asks LeakSanitizer what nobody frees.

sanitize.py runs it, with the instrumented module, and reads the report.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch

import deeplab_native as dn
from deeplab_native import _C
from deeplab_native.pydensecrf import densecrf
from python_tests.ops.func_cases import CASES, Call

ROUNDS = 3


def call_ops() -> None:
    """Every op, and its backward."""
    for case in CASES:
        if case.only_cuda:
            continue
        call = Call(case, torch.device("cpu"))
        call(*call.tensors)
        if case.derivatives:
            some = [call.tensors[i].clone().requires_grad_() for i in case.differentiable]
            call.scalar(case.differentiable)(*some).backward()


def call_crf(height: int, width: int) -> None:
    """Objects that own native memory, with several threads; kept lattices that push others out."""
    generator = torch.Generator().manual_seed(height)
    unary = torch.rand(1, 4, height, width, generator=generator)
    image = torch.randint(0, 256, (1, 3, height, width), generator=generator).to(torch.uint8)
    crf = dn.MeanField.from_image(unary, image, dn.CRFParams(4, 30, 20, 3, 3))
    crf.step(crf.start())
    dn.dense_crf(unary, image, dn.CRFParams(4, 30, 20, 3, 3))
    old = densecrf.DenseCRF2D(width, height, 4)
    old.setUnaryEnergy(np.ascontiguousarray(unary.numpy().reshape(4, -1)))
    old.addPairwiseGaussian(sxy=3, compat=3)
    old.addPairwiseBilateral(
        sxy=30, srgb=13, rgbim=np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()), compat=4
    )
    old.inference(2)


def call_what_fails() -> None:
    """Errors that the native code throws, when it has begun to build something."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(50, 3, generator=generator) * 1e30
    try:
        dn.permutohedral_filter(torch.rand(50, 2), features)
    except ValueError:
        return
    raise SystemExit("features that are too large were taken")


def main() -> None:
    torch.set_num_threads(2)
    for _ in range(ROUNDS):
        call_ops()
        for size in range(40, 60, 2):
            call_crf(size, 50)
        call_what_fails()
        _C.release_memory()
    gc.collect()
    ctypes.CDLL(None).__lsan_do_recoverable_leak_check()


if __name__ == "__main__":
    main()
