"""The fully connected CRF: parameters, presets and inference one iteration at a time."""

from .mean_field import MeanField
from .params import PRESETS, CRFParams

__all__ = ["PRESETS", "CRFParams", "MeanField"]
