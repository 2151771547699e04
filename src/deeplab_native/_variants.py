"""Kernels between which only a GPU can choose: one internal switch for all of them.

Every choice gives the right result; they differ in speed. `benchmarks/bench_variants.py` times them
side by side, and what it measures becomes the default. The environment variable
DEEPLAB_NATIVE_VARIANTS ("name=choice,name=choice"), read once, sets others for a whole process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Name of a switch -> its choices, the default first; what a native function takes is the number.
CHOICES: dict[str, tuple[str, ...]] = {
    # taps of a channels_last product in float32: without a gap, or as words of 16 bytes
    "aspp_float_taps": ("dense", "padded"),
    # the head's product in float32: one, or one for each band of rows with the taps that it needs
    "aspp_float_rows": ("whole", "bands"),
    # a contiguous map to channels_last for its product
    "aspp_transpose": ("tiles", "torch"),
    # bias, residual and ReLU after the convolutions of a folded net
    "net_epilogue": ("native", "cudnn"),
    # side of the tiles of pixels through which the points of the CRF's lattices go
    "crf_tile": ("8", "16", "off"),
    # vertices of a lattice numbered so that neighbours are near, or as points touch them first
    "crf_vertices": ("near", "first"),
    # tiles of the direct convolution's pipelined kernel, in the order of _atrous_pipelined.TILES;
    # "registers": the kernel of all devices, whose loads go through registers
    "direct": ("planned", "256x128", "128x128", "128x64", "64x64", "128x32", "registers"),
    # the CRF on labels that matter, or on all of them in every update
    "crf_labels": ("hot", "all"),
}
ENVIRONMENT = "DEEPLAB_NATIVE_VARIANTS"

_changed: dict[str, str] | None = None  # what is not the default; None: not read yet


def chosen(name: str) -> str:
    """The choice of a switch that is in force."""
    return current().get(name, CHOICES[name][0])


def number(name: str) -> int:
    """The same as its place in CHOICES, which native code takes."""
    return CHOICES[name].index(chosen(name))


@contextmanager
def use(choices: Mapping[str, str]) -> Iterator[None]:
    """Within, the switches that are named take these choices, in every thread.

    Raises:
        ValueError: there is no such switch, or no such choice.
    """
    global _changed
    before = current()
    _changed = before | _checked(choices)
    try:
        yield
    finally:
        _changed = before


def current() -> dict[str, str]:
    """The switches that were set, and their choices; the others have their default."""
    global _changed
    if _changed is None:
        _changed = _checked(parse(os.environ.get(ENVIRONMENT, "")))
    return _changed


def parse(text: str) -> dict[str, str]:
    """{"a": "x", "b": "y"} of "a=x,b=y"; of a piece without "=", the choice is empty."""
    pieces = (piece.strip() for piece in text.split(","))
    return {name: choice for name, _, choice in (p.partition("=") for p in pieces if p)}


def _checked(choices: Mapping[str, str]) -> dict[str, str]:
    for name, choice in choices.items():
        if name not in CHOICES:
            raise ValueError(f"variants: no switch {name!r}; there are {', '.join(CHOICES)}")
        if choice not in CHOICES[name]:
            raise ValueError(
                f"variants: {name} has no choice {choice!r}, but {', '.join(CHOICES[name])}"
            )
    return dict(choices)
