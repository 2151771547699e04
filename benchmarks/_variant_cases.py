"""What bench_variants.py runs for each switch of `deeplab_native._variants`."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import interpolate

import bench_crf
from _cuda_timing import Inputs
from _head import RATES
from deeplab_native import CRFParams, MeanField, aspp, atrous_conv2d, dense_crf
from deeplab_native.layers import AtrousConv2d
from deeplab_native.models import create_model
from deeplab_native.models._inference import Ready, ready


@dataclass(frozen=True)
class Case:
    """A call on rotating inputs; results of two choices may differ by `tolerance` (absolute)."""

    name: str
    fn: Callable[..., torch.Tensor]
    inputs: Inputs
    tolerance: float = 0.0


def aspp_cases(
    device: torch.device, emulated: bool, dtype: torch.dtype, last: bool
) -> Iterator[Case]:
    """ResNet-101's head, in its sizes: maps of an odd number of pixels."""
    channels, labels = (16, 5) if emulated else (2048, 21)
    for batch, size in [(2, 7)] if emulated else itertools.product((1, 8), (41, 65)):
        new = partial(torch.randn, device=device)
        weights = [new(labels, channels, 3, 3).to(dtype) / 100 for _ in RATES]
        biases = [new(labels).to(dtype) for _ in RATES]
        layout = torch.channels_last if last else torch.contiguous_format
        maps = [new(batch, channels, size, size).to(dtype) for _ in range(1 if emulated else 8)]
        inputs = [(map.contiguous(memory_format=layout), weights, biases, RATES) for map in maps]
        kind = str(dtype).removeprefix("torch.") + (", channels_last" if last else "")
        name = f"head, {batch} x {size} x {size}, {kind}"
        yield Case(name, aspp, inputs, 1e-4 if dtype == torch.float32 else 0.0)


def aspp_float_cases(device: torch.device, emulated: bool) -> Iterator[Case]:
    for last in (False, True):
        yield from aspp_cases(device, emulated, torch.float32, last)


def net_epilogue(device: torch.device, emulated: bool) -> Iterator[Case]:
    """ResNet-101 as `predict` runs it; emulated, a few of its first layers."""
    net = create_model("deeplab_resnet101", seed=0).to(device)
    if emulated:
        net.res3, net.res4, net.res5 = (torch.nn.Identity() for _ in range(3))
        net.fc1 = AtrousConv2d(256, 21, 1, device=device)
    for batch in (1,) if emulated else (1, 8):
        side = 17 if emulated else 513
        made = ready(net, "auto")
        inputs = [
            (torch.randn(batch, 3, side, side, device=device).mul_(50),)
            for _ in range(1 if emulated else 3)
        ]

        def run(x: torch.Tensor, made: Ready = made) -> torch.Tensor:
            with torch.inference_mode():
                x = x.to(made.dtype, memory_format=made.memory_format)
                return made(net, x).float()

        with torch.inference_mode():
            scale = float(run(*inputs[0]).abs().max())
        # bfloat16: 8 bits, over a hundred layers
        yield Case(f"resnet101 {side} x{batch}", run, inputs, tolerance=0.1 * scale)


def crf_cases(device: torch.device, emulated: bool) -> Iterator[Case]:
    """A whole CRF, its lattices alone, and batches: what the order of points and vertices moves."""
    height, width, labels = (24, 33, 4) if emulated else (375, 500, 21)
    for name, sigmas in (("80/13", (80, 13)), ("67/3", (67, 3))):
        params = CRFParams(4, *sigmas, 3, 3)
        for batch in (1, 2) if emulated else (1, 16):
            inputs = [crf_inputs(batch, labels, height, width, seed, device) for seed in range(2)]
            whole = partial(dense_crf, params=params, iterations=3 if emulated else 10)
            yield Case(f"crf {name} x{batch}", whole, inputs, tolerance=1e-4)

            def lattices(unary: torch.Tensor, image: torch.Tensor, params=params) -> torch.Tensor:
                MeanField.from_image(unary, image, params)
                return unary[:1, :1, :1, :1]  # nothing to compare

            yield Case(f"lattices {name} x{batch}", lattices, inputs)


def crf_inputs(
    batch: int, labels: int, height: int, width: int, seed: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Energies and an image of smooth regions with some noise, as rich in colours as a photo."""
    generator = torch.Generator().manual_seed(seed)
    size = height, width
    unary = 4 * torch.rand(batch, labels, height // 8, width // 8, generator=generator)
    smooth = torch.rand(batch, 3, height // 25 + 1, width // 25 + 1, generator=generator)
    unary, smooth = (interpolate(x, size, mode="bilinear") for x in (unary, smooth))
    noise = torch.randn(batch, 3, height, width, generator=generator)
    image = (255 * smooth + 4 * noise).clamp(0, 255).to(torch.uint8)
    return unary.to(device), image.to(device)


def direct(device: torch.device, emulated: bool) -> Iterator[Case]:
    """Layers of VGG-16 and ResNet-101 in bf16; parts of the sums may round differently."""
    layers = [  # channels, filters, rate, size
        *((512, 1024, rate, 41) for rate in (4, 12, 24)),
        (512, 1024, 12, 65),
        (2048, 21, 12, 41),
        (256, 256, 2, 41),
    ]
    for channels, filters, rate, size in [(72, 40, 4, 7)] if emulated else layers:
        for batch in (1, 2) if emulated else (1, 8):
            for layout in (torch.contiguous_format, torch.channels_last):
                inputs = []
                for _ in range(1 if emulated else 3):
                    map = torch.randn(batch, channels, size, size, device=device).bfloat16()
                    weight = torch.randn(filters, channels, 3, 3, device=device).bfloat16()
                    inputs.append((map.contiguous(memory_format=layout), weight))
                name = f"{channels}->{filters} r={rate} {batch}x{size} {layout}".replace(
                    "torch.", ""
                )
                conv = partial(atrous_conv2d, padding=rate, rate=rate, algorithm="direct")
                # of sums as large as the root of their terms, 8 bits of five times that
                yield Case(name, conv, inputs, 5 * (9 * channels) ** 0.5 * 2**-8)


def crf_labels(device: torch.device, small: bool) -> Iterator[Case]:
    """Scores as sharp as a net's, of which some labels matter, and some of which all do."""
    for batch, alpha, beta in ((1, 80, 13), (1, 67, 3), (16, 80, 13), (16, 67, 3)):
        case = (
            bench_crf.Case(24, 31, 21, 9, beta)
            if small
            else bench_crf.Case(375, 500, 21, alpha, beta)
        )
        unary, image = bench_crf.sample(case)
        for kind, sharper in (("sharp", 4.0), ("all labels", 0.2)):
            energies = -(-sharper * unary).log_softmax(1)
            given = [x.repeat(2 if small else batch, 1, 1, 1).to(device) for x in (energies, image)]
            crf = partial(dense_crf, params=case.params, iterations=3 if small else 10)
            sets = [tuple(x.clone() for x in given) for _ in range(1 if small else 3)]
            yield Case(f"{case.name}, {batch} {kind}", crf, sets, tolerance=5e-5)
        if small:
            return


# Switch -> its cases on a device; small ones, of the same kind, where the kernels are emulated.
CASES: dict[str, Callable[[torch.device, bool], Iterator[Case]]] = {
    "aspp_float_taps": partial(aspp_cases, dtype=torch.float32, last=True),
    "aspp_float_rows": aspp_float_cases,
    "aspp_transpose": partial(aspp_cases, dtype=torch.bfloat16, last=False),
    "net_epilogue": net_epilogue,
    "crf_tile": crf_cases,
    "crf_vertices": crf_cases,
    "direct": direct,
    "crf_labels": crf_labels,
}
