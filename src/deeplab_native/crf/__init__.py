"""The fully connected CRF: parameters, presets and inference one iteration at a time."""

from ..ops._mean_field_checks import PairwiseKernel
from ..ops.crf_params import PRESETS, CRFParams
from .mean_field import MeanField
from .refining import refine

__all__ = ["PRESETS", "CRFParams", "MeanField", "PairwiseKernel", "refine"]
