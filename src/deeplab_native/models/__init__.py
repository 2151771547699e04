
from .base import DeepLab
from .preprocessing import CAFFE, Preprocessing
from .registry import ModelInfo, create_model, list_models

__all__ = [
    "CAFFE",
    "DeepLab",
    "ModelInfo",
    "Preprocessing",
    "create_model",
    "list_models",
]
