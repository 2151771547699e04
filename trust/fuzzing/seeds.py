"""Small whole files of every kind that is read."""

from __future__ import annotations

import io
import json
import pickle
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from python_tests.weights.checkpoint_cases import layer, message, v1_layer

from .seeds_of_data import label_pictures


def caffemodels() -> list[bytes]:
    """Both versions of layers; numbers packed, one by one, and double."""
    values = np.arange(8, dtype=np.float32)
    vector = values[:2]
    return [
        message(1, "net") + layer("conv1_1", "Convolution", [values.reshape(2, 1, 2, 2), vector]),
        layer("bn", "BatchNorm", [vector, vector, np.float32([1])]),
        layer("fc6", "InnerProduct", [values.reshape(4, 2)], packed=False),
        v1_layer("fc7", 14, [values.reshape(4, 2), values[:4]]),
        v1_layer("conv1_2", 4, [values[:4].reshape(1, 4, 1, 1)], double=True),
    ]


def torch_files() -> list[bytes]:
    """Both formats, with and without what torch's restricted unpickler refuses."""
    state = {"fc6.weight": torch.ones(2, 2), "fc6.bias": torch.arange(3, dtype=torch.int8)}
    args = Namespace(lr=0.1, folder=Path("runs"))
    contents = [
        {"state_dict": state},
        {"net": state, "args": args, "best": np.float64(0.5)},
        {"model": nn.Conv2d(1, 1, 1), "args": args},
        OrderedDict({"module.w": nn.Parameter(torch.ones(2, dtype=torch.float16))}),
    ]
    files = [_saved(content, zipped) for content in contents for zipped in (True, False)]
    return [*files, _pickled_alone(state.keys())]


def _saved(content: object, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _pickled_alone(content: object) -> bytes:
    return pickle.dumps(list(content), protocol=2)  # type: ignore[call-overload]


def safetensors() -> list[bytes]:
    """Files of ours with all that they may say, one that says little, others' and a checkpoint."""
    from deeplab_native.crf import CRFParams  # here: what is imported first is not instrumented

    described = {
        "format": "deeplab_native/1",
        "model": "deeplab_vgg16_largefov",
        "num_classes": "2",
        "options": '{"a":[1]}',
        "preprocessing": json.dumps(
            {
                "channel_order": "BGR",
                "mean": [104.0, 117.0, 123.0],
                "std": [1.0, 1.0, 1.0],
                "scale": 1.0,
            }
        ),
    }
    more = {
        "class_names": '["a","b"]',
        "palette": "[[0,0,0],[1,2,3]]",
        "crf": json.dumps({name: 1.0 for name in vars(CRFParams())}),
        "scales": "[0.5,1.0]",
    }
    tensor = {"w": torch.ones(2)}
    return [save(tensor, header) for header in (described, described | more, {"a": "b"}, None)]


def checkpoints() -> list[bytes]:
    """Of a net of two parameters, see `targets`."""
    header = {
        "format": "deeplab_native_training/1",
        "iteration": "3",
        "average_updates": "2",
        "record": '{"config":{"a":1}}',
    }
    names = ("net/weight", "net/bias", "momentum/bias", "average/weight", "average/bias")
    tensors = {name: torch.ones(1, 1) if "weight" in name else torch.ones(1) for name in names}
    return [save(tensors, header), save({}, header)]


def trunks() -> list[bytes]:
    """An archive of two arrays, see `targets`."""
    arrays = {"00_conv.weight": np.ones((1, 1, 1, 1), np.float32), "00_conv.bias": np.ones(1)}
    return [_npz(arrays), _npz({"00_conv.bias": np.ones(1, np.float16)})]


def _npz(arrays: dict[str, np.ndarray], *, packed: bool = False) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(file, **arrays)
    return file.getvalue()


def scores() -> list[bytes]:
    """Arrays of NumPy, alone and in archives, and tensors of PyTorch."""
    maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    others = [np.ones((2, 1), np.uint8), np.asfortranarray(maps), np.ones((), ">f8")]
    files = []
    for array in (maps, *others):
        file = io.BytesIO()
        np.save(file, array)
        files.append(file.getvalue())
    return [
        *files,
        _npz({"a": maps}),
        _npz({"a": maps, "b": others[0]}, packed=True),
        _saved(torch.from_numpy(maps), True),
        _saved({"a": torch.ones(2, dtype=torch.float16)}, False),
        label_pictures()[0],  # scores can be masks
    ]
