"""The paper's nets, their input format, and prediction from an image to labels."""

from .base import DeepLab
from .export import export_onnx
from .output_stride import set_output_stride
from .predict import Prediction, predict
from .preprocessing import CAFFE, Preprocessing
from .registry import ModelInfo, create_model, list_models

__all__ = [
    "CAFFE",
    "DeepLab",
    "ModelInfo",
    "Prediction",
    "Preprocessing",
    "create_model",
    "export_onnx",
    "list_models",
    "predict",
    "set_output_stride",
]
