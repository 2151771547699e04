"""What is called while memory fails: every part of the library that allocates natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils import _pytree as pytree

from deeplab_native import CRFParams, MeanField, PairwiseKernel, dense_crf, mean_field, refine
from deeplab_native.demo.photo import photograph
from deeplab_native.layers import DenseCRFLoss
from deeplab_native.models import predict
from deeplab_native.pydensecrf import densecrf, utils
from deeplab_native.weights import EMBEDDED, load_model

PARAMS = CRFParams(4, 30, 20, 3, 3)
THREADS = 2


class Call(NamedTuple):
    """use(make()) is what is called, and gives its results as bytes; `use` alone can fail."""

    use: Callable[..., bytes]
    make: Callable[[], Any] | None = None

    def __call__(self) -> bytes:
        return self.use(self.make()) if self.make else self.use()


def bits(*values: Any) -> bytes:
    """Of arrays and tensors, within lists and tuples, too."""
    leaves = pytree.tree_leaves(values)
    arrays = [v.detach().numpy() if isinstance(v, torch.Tensor) else np.asarray(v) for v in leaves]
    return b"".join(a.tobytes() for a in arrays)


def picture(height: int, width: int) -> np.ndarray:
    """The package's photograph, (height, width, 3) uint8, seen every few pixels."""
    pixels = photograph()
    step = min(pixels.shape[0] // height, pixels.shape[1] // width)
    return np.ascontiguousarray(pixels[::step, ::step][:height, :width])


def _scores(labels: int, *size: int) -> torch.Tensor:
    return torch.randn((labels, *size), generator=torch.Generator().manual_seed(1)) * 2


def _dense_crf(size: tuple[int, int], labels: int, **how: Any) -> Call:
    image = torch.from_numpy(picture(*size)).permute(2, 0, 1)[None]
    unary = -_scores(labels, *size)[None].log_softmax(1)
    return Call(lambda: bits(dense_crf(unary, image, PARAMS, **how)))


def _gradient(size: tuple[int, int]) -> Call:
    image = torch.from_numpy(picture(*size)).permute(2, 0, 1)[None]
    unary = -_scores(3, *size)[None].log_softmax(1)

    def call() -> bytes:
        leaf = unary.clone().requires_grad_()
        dense_crf(leaf, image, PARAMS, iterations=3)[:, 0].sum().backward()
        return bits(leaf.grad)

    return Call(call)


def _volume() -> Call:
    random = np.random.default_rng(0)
    image = torch.from_numpy(random.integers(0, 255, (1, 1, 6, 20, 24), dtype=np.uint8))
    unary = -_scores(3, 6, 20, 24)[None].log_softmax(1)
    return Call(lambda: bits(dense_crf(unary, image, PARAMS, spacing=(2, 1, 1))))


def _wide() -> Call:
    """Features of more dimensions than are packed into keys."""
    features = torch.rand((3000, 20), generator=torch.Generator().manual_seed(2)) * 3
    unary = -_scores(3, 3000).log_softmax(0)
    return Call(lambda: bits(mean_field(unary, [PairwiseKernel(features, 2.0)], iterations=3)))


def _field(labels: int, size: tuple[int, int]) -> Call:
    """An object that is used again after it failed."""
    image = torch.from_numpy(picture(*size)).permute(2, 0, 1)
    unary = -_scores(labels, *size).log_softmax(0)

    def use(field: MeanField) -> bytes:
        q = field.step(field.start())
        return bits(q, field.kl_divergence(q))

    return Call(use, lambda: MeanField.from_image(unary, image, PARAMS))


def _loss(size: tuple[int, int]) -> Call:
    image = torch.from_numpy(picture(*size)).permute(2, 0, 1)[None]
    scores = _scores(3, *size)[None]

    def call() -> bytes:
        leaf = scores.clone().requires_grad_()
        DenseCRFLoss(weight=1e-3, sigma_rgb=15, sigma_xy=50)(image, leaf.softmax(1)).backward()
        return bits(leaf.grad)

    return Call(call)


def _drop_in(size: tuple[int, int]) -> tuple[Call, Call]:
    rgb, (height, width) = picture(*size), size
    unary = utils.unary_from_softmax(_scores(3, *size).softmax(0).numpy())

    def make() -> densecrf.DenseCRF2D:
        densecrf.set_num_threads(torch.get_num_threads())
        crf = densecrf.DenseCRF2D(width, height, 3)
        crf.setUnaryEnergy(unary)
        crf.addPairwiseGaussian(sxy=3, compat=3)
        crf.addPairwiseBilateral(sxy=30, srgb=13, rgbim=rgb, compat=10)
        return crf

    def use(crf: densecrf.DenseCRF2D) -> bytes:
        q = crf.inference(5)
        return bits(q, crf.klDivergence(crf.startInference()[0]))

    return Call(lambda: use(make())), Call(use, make)


def _refine(size: tuple[int, int]) -> Call:
    rgb = picture(*size)
    mask = np.zeros(size, bool)
    mask[size[0] // 4 : -size[0] // 4, size[1] // 3 : -size[1] // 3] = True
    return Call(lambda: bits(refine(rgb, mask)))


def _predict(size: tuple[int, int]) -> Call:
    net = load_model(EMBEDDED)
    image = torch.from_numpy(picture(*size)).permute(2, 0, 1)
    return Call(lambda: bits(predict(net, image, crf=PARAMS).labels))


def cases(scale: int = 1) -> dict[str, Call]:
    """By name; `scale` times as many pixels on each side."""
    size, small = (48 * scale, 64 * scale), (24 * scale, 32 * scale)
    return {
        "dense_crf": _dense_crf(size, 5),
        "dense_crf, two labels": _dense_crf(size, 2),
        "dense_crf, scaled": _dense_crf(size, 3, scale=0.5),
        "dense_crf, exact": _dense_crf(small, 3, algorithm="exact", iterations=2),
        "dense_crf, bridged": _dense_crf(small, 3, lattice="bridged"),
        "dense_crf, gradient": _gradient(small),
        "dense_crf, volume": _volume(),
        "mean_field, 20 dimensions": _wide(),
        "MeanField": _field(5, small),
        "MeanField, two labels": _field(2, small),
        "DenseCRFLoss": _loss(small),
        "pydensecrf": _drop_in(size)[0],
        "pydensecrf, an object": _drop_in(small)[1],
        "refine": _refine(size),
        "predict": _predict(small),
    }


def op_cases() -> dict[str, Call]:
    """Every op of the package that runs on the CPU, called as itself."""
    from python_tests.ops import func_cases

    found: dict[str, Call] = {}
    for number, case in enumerate(c for c in func_cases.CASES if not c.only_cuda):
        call = func_cases.Call(case, torch.device("cpu"))
        found[f"{case.op}, {number}"] = Call(lambda call=call: bits(call(*call.tensors)))
    return found
