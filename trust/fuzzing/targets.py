"""The readers of this package, each with what it may take."""

from __future__ import annotations

from pathlib import Path

from . import containers, mutators, seeds
from .target import Reader, Scratch, Target
from .targets_of_data import DATA

_KB = 1024
_TORCH = ("weights/state_dict.py", "weights/torch_file.py", "weights/pickles.py")
_SAFETENSORS = ("weights/safetensors_file.py", "weights/metadata.py", "_file_kinds.py")


def _caffemodel(_: Scratch) -> Reader:
    from deeplab_native.weights.caffe_names import named_blobs
    from deeplab_native.weights.caffemodel import parse_caffemodel

    path = Path("caffemodel")
    return lambda data: list(named_blobs(path, parse_caffemodel(data, path)))


def _safetensors(scratch: Scratch) -> Reader:
    from deeplab_native.weights.safetensors_file import read_safetensors

    file = scratch.file("safetensors")
    return lambda data: read_safetensors(file.write(data))


def _torch(scratch: Scratch) -> Reader:
    from deeplab_native.weights.state_dict import read_pickled

    file = scratch.file("torch")
    return lambda data: read_pickled(file.write(data))


def _pickles(scratch: Scratch) -> Reader:
    """Our own reader alone, for all that torch's would take, too."""
    from deeplab_native._memory import ClippedFile
    from deeplab_native.weights.pickles import DamagedError, Opaque
    from deeplab_native.weights.torch_file import TorchFile, module_state

    file = scratch.file("pickles")

    def read(data: bytes) -> None:
        try:
            with ClippedFile(file.write(data)) as opened:
                found = TorchFile(opened)
                todo = [found.content]
                for _ in range(50):
                    value = todo.pop() if todo else None
                    if isinstance(value, Opaque) and found.tensor(value) is None:
                        todo += [module_state(value), value.items, value.state]
                    elif isinstance(value, dict):
                        todo += value.values()
        except DamagedError as error:  # whose callers name the file
            raise ValueError(f"pickles: {error}") from None

    return read


def _checkpoint(scratch: Scratch) -> Reader:
    from torch import nn

    from deeplab_native.training.checkpoints import State, load_checkpoint, read_record
    from deeplab_native.training.ema import WeightAverage
    from deeplab_native.training.optimizer import CaffeSGD

    net = nn.Linear(1, 1)
    state = State(net, CaffeSGD(net.parameters(), lr=0.1), WeightAverage(net, 0.5))
    file = scratch.file("checkpoint")

    def read(data: bytes) -> None:
        path = file.write(data)
        read_record(path)
        load_checkpoint(path, state)

    return read


def _trunk(scratch: Scratch) -> Reader:
    from deeplab_native.weights.mobilenet_v2 import _read

    file = scratch.file("trunk.npz")
    expected = {"00_conv.weight": (1, 1, 1, 1), "00_conv.bias": (1,)}
    return lambda data: _read(file.write(data), expected)


def _scores(scratch: Scratch) -> Reader:
    from deeplab_native.jobs._score_files import read_array

    file = scratch.file("scores.npy")
    return lambda data: read_array(file.write(data))


_WEIGHTS = (
    Target(
        "caffemodel",
        "a .caffemodel: layers and their blobs",
        ("weights/caffe*.py", "weights/protobuf.py"),
        _caffemodel,
        seeds.caffemodels,
        max_len=192,
        memory=(64, 64 * _KB),
        mutator=mutators.caffemodel,
    ),
    Target(
        "safetensors",
        "safetensors, and what ours say of classes, colours and the CRF",
        _SAFETENSORS,
        _safetensors,
        seeds.safetensors,
        max_len=1024,
        memory=(64, 128 * _KB),
        mutator=containers.safetensors,
    ),
    Target(
        "torch",
        "files of torch.save, of both formats",
        _TORCH,
        _torch,
        seeds.torch_files,
        max_len=2048,
        memory=(512, 256 * _KB),
        mutator=containers.zipped,
    ),
    Target(
        "pickles",
        "what torch's restricted unpickler refuses",
        _TORCH,
        _pickles,
        seeds.torch_files,
        max_len=2048,
        memory=(512, 256 * _KB),
        mutator=containers.zipped,
    ),
    Target(
        "checkpoint",
        "checkpoints of training",
        ("training/checkpoints.py",),
        _checkpoint,
        seeds.checkpoints,
        max_len=1024,
        memory=(64, 128 * _KB),
        mutator=containers.safetensors,
    ),
    Target(
        "trunk",
        "the archive of MobileNetV2's trunk",
        ("weights/mobilenet_v2.py",),
        _trunk,
        seeds.trunks,
        max_len=1024,
        memory=(512, 256 * _KB),
        mutator=containers.zipped,
    ),
    Target(
        "scores",
        "scores: .npy, .npz, tensors of torch.save",
        ("jobs/_score_files.py", "jobs/_array_sizes.py"),
        _scores,
        seeds.scores,
        max_len=1024,
        memory=(512, 256 * _KB),
        mutator=containers.zipped,
    ),
)

TARGETS = {target.name: target for target in (*_WEIGHTS, *DATA)}
"""By name."""
