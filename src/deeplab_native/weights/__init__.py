"""Weights files: our own safetensors, and the checkpoints of other projects.

A file of ours says which net it belongs to, its classes and its input format. Others are recognised
by their keys, and bring the input format that their weights were trained with. Nothing here
executes what a file holds: pickled files are read by torch's restricted unpickler, or by one of our
own that makes no objects, caffemodels by a reader of our own.
"""

from __future__ import annotations

from .building import export_deeplab_pytorch, fitting_models, load_model, recognise
from .checkpoint import SOURCES, TORCHVISION, TORCHVISION_FEATURES, Checkpoint, Source, check_file
from .convert import convert
from .embedded import EMBEDDED, EMBEDDED_SIDE
from .loading import load
from .metadata import Metadata
from .safetensors_file import read_metadata, save

__all__ = [
    "EMBEDDED",
    "EMBEDDED_SIDE",
    "SOURCES",
    "TORCHVISION",
    "TORCHVISION_FEATURES",
    "Checkpoint",
    "Metadata",
    "Source",
    "check_file",
    "convert",
    "export_deeplab_pytorch",
    "fitting_models",
    "load",
    "load_model",
    "read_metadata",
    "recognise",
    "save",
]
