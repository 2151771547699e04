"""The weights that come with the package."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = Path(__file__).with_name("mobilenetv2_aspp_voc_animals.safetensors")
"""A small net for 7 classes of PASCAL VOC (background, cat, cow, dog, horse, person, sheep), in
float16. What it is, how it was trained and how well it does stands beside it, in the .md file of
the same name. Source: `experiments/voc_animals.md`."""

EMBEDDED_SIDE = 321
"""Longest side of the photographs that it was trained on: `longest_side` of `predict`."""
