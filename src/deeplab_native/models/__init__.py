"""The paper's nets, their input format, and prediction from an image to labels."""

from .base import DeepLab
from .export import export_onnx
from .loss import label_shrink, score_map_loss
from .multi_scale import MultiScaleScores
from .output_stride import set_output_stride
from .predict import Prediction, predict, refresh
from .predictor import Predictor
from .preprocessing import CAFFE, TENSORFLOW, Preprocessing
from .registry import ModelInfo, create_model, list_models

__all__ = [
    "CAFFE",
    "TENSORFLOW",
    "DeepLab",
    "ModelInfo",
    "MultiScaleScores",
    "Prediction",
    "Predictor",
    "Preprocessing",
    "create_model",
    "export_onnx",
    "label_shrink",
    "list_models",
    "predict",
    "refresh",
    "score_map_loss",
    "set_output_stride",
]
