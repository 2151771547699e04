"""The work whose speed has a goal, as the kernels that do it; roofline.py computes the bounds."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

import _conv_costs as conv
from _mean_field_costs import crf_phases
from _roofline import Ceilings, Cost, Phase, floor
from bench_crf import CASES, Case, inputs
from bench_space_to_batch import CASES as MOVED
from deeplab_native import CRFParams, MeanField, models
from deeplab_native.layers import AtrousConv2d
from deeplab_native.layers.frozen_batch_norm import FrozenBatchNorm2d

E2E_SIZE, CLASSES = 513, 21
HOT = (3, 2)  # chunks of labels that matter, first and later: medians of labels_on_voc_scores.py


@dataclass
class Workload:
    """goal_us: None where there is none."""

    name: str
    phases: list[Phase]
    goal_us: float | None = None
    goal: str = ""


@cache
def vertices(case: Case, params: CRFParams, voc: Path | None, photos: int) -> tuple[int, int]:
    """Of the spatial and the bilateral lattice, the medians over photographs."""
    counts = [
        MeanField.from_image(unary, image, params).num_vertices[0]
        for unary, image in inputs(case, voc, photos)
    ]
    spatial, bilateral = (round(statistics.median(n)) for n in zip(*counts, strict=True))
    return spatial, bilateral


def crf_workloads(args: argparse.Namespace) -> Iterator[Workload]:
    for case in CASES:
        if case.labels == 2:
            continue
        small = case.height == 375
        found = vertices(case, case.params, args.voc, args.photos if small else 1)
        size = case.labels, case.height * case.width, found
        name = f"crf {case.name}"
        one = crf_phases(1, *size, hot=HOT)
        if not small:
            yield Workload(name, one, 1e6 / 60, ">= 60 images/s")
            continue
        yield Workload(f"{name}, one image", one, 1500, "<= 1.5 ms")
        yield Workload(f"{name}, lattice build", one[:1], 300, "<= 0.3 ms")
        yield Workload(
            f"{name}, batch 16", crf_phases(16, *size, hot=HOT), 16e3, ">= 1000 images/s"
        )


def head_workloads(ceilings: Ceilings) -> Iterator[Workload]:
    for size in (41, 65):
        for batch in (1, 8):
            for dtype in conv.DTYPES:
                costs = conv.aspp_costs(size, batch, dtype, 2048, 21)
                four = [
                    conv.library_conv(conv.Conv(2048, 21, rate, size, batch, dtype))
                    for rate in (6, 12, 18, 24)
                ]
                goal = floor([conv.one_phase("", four)], ceilings) / 3
                name = f"ASPP head {batch} x {size}x{size} {dtype}"
                yield Workload(
                    name, [conv.one_phase("head", costs)], goal, "a third of four conv2d's floor"
                )


LAYERS = {
    "LargeFOV fc6": (512, 1024, 12),
    "ASPP-L fc6 r=24": (512, 1024, 24),
    "ResNet res4": (256, 256, 2),
    "ResNet res5": (512, 512, 4),
}


def layer_workloads(ceilings: Ceilings) -> Iterator[Workload]:
    for name, shape in LAYERS.items():
        for batch in (1, 8):
            for dtype in conv.DTYPES:
                c = conv.Conv(*shape, 65, batch, dtype)
                goal = 1.05 * floor([conv.one_phase("", [conv.library_conv(c)])], ceilings)
                for algorithm, costs in (
                    ("direct", conv.direct_costs(c)),
                    ("im2col", conv.im2col_costs(c)),
                ):
                    phase = conv.one_phase(algorithm, costs)
                    what = f"{name} {batch} x 65x65 {dtype}, {algorithm}"
                    yield Workload(what, [phase], goal, "1.05 x conv2d's floor")


def moving_workloads(ceilings: Ceilings) -> Iterator[Workload]:
    for size, rate, dtype in MOVED:
        for channels_last in (False, True):
            for back in (False, True):
                name = str(dtype).removeprefix("torch.")
                cost = conv.space_to_batch_cost(size, rate, name, channels_last, back)
                goal = 1e6 * cost.unique / ceilings.device / 0.8
                layout = "channels_last" if channels_last else "contiguous"
                what = f"{cost.kernel} {'x'.join(map(str, size))} r={rate} {name} {layout}"
                yield Workload(what, [conv.one_phase("copy", [cost])], goal, "80 % of a copy")


@cache
def net_layers() -> list[tuple[str, int, int, int, int]]:
    """Name, map, weight and output (elements) and operations of every layer, of one image."""
    found = []

    def note(module, args, out) -> None:
        elements = args[0].numel(), out.numel()
        if isinstance(module, AtrousConv2d):
            weight = module.weight.numel()
            operations = 2 * out[0, 0].numel() * weight
            found.append(("convolutions (torch)", elements[0], weight, elements[1], operations))
        else:
            found.append(("batch norms (torch)", elements[0], 0, elements[1], 0))

    with torch.device("meta"), torch.inference_mode():
        net = models.create_model("deeplab_resnet101_aspp", num_classes=CLASSES).eval()
        for module in net.modules():
            convolves = isinstance(module, AtrousConv2d) and module.weight.shape[0] != CLASSES
            if convolves or isinstance(module, FrozenBatchNorm2d):  # the head is fused
                module.register_forward_hook(note)
        net(torch.empty(1, 3, E2E_SIZE, E2E_SIZE))
    return found


def net_phase(batch: int) -> Phase:
    """The net in bfloat16, layer by layer: the weights are in no cache, the maps may be."""
    layers = [
        Cost(
            name,
            1,
            2 * (batch * (map + out) + weight),
            tensor=("tensor16", batch * operations),
            new=2 * weight,
        )
        for name, map, weight, out, operations in net_layers()
    ]
    head = conv.aspp_costs(E2E_SIZE // 8 + 1, batch, "bfloat16", 2048, 21)
    return Phase("net", 1, 0, [*layers, *head])


def whole_workloads(args: argparse.Namespace) -> Iterator[Workload]:
    params = CRFParams.preset("voc-resnet101")
    case = Case(E2E_SIZE, E2E_SIZE, 21, params.sigma_alpha, params.sigma_beta)
    pixels = E2E_SIZE**2
    for batch, goal, text in ((1, 15e3, "<= 15 ms"), (8, 80e3, ">= 100 images/s")):
        full = 4 * 21 * pixels * batch
        scores = [
            conv.upsample_cost(E2E_SIZE // 8 + 1, E2E_SIZE, 21, batch),
            Cost("interpolate (torch)", 1, full, flops=11 * full / 4),
        ]
        found = vertices(case, params, args.voc, args.photos)
        crf = crf_phases(batch, 21, pixels, found, hot=HOT)
        labels = [Cost("argmax (torch)", 1, full + 8 * pixels * batch)]
        phases = [
            net_phase(batch),
            conv.one_phase("scores", scores),
            *crf,
            conv.one_phase("labels", labels),
        ]
        yield Workload(f"ResNet-101 ASPP {E2E_SIZE} bfloat16, batch {batch}", phases, goal, text)


def all_workloads(args: argparse.Namespace, ceilings: Ceilings) -> Iterator[Workload]:
    yield from crf_workloads(args)
    yield from head_workloads(ceilings)
    yield from layer_workloads(ceilings)
    yield from moving_workloads(ceilings)
    yield from whole_workloads(args)
