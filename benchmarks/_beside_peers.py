"""Nets and CRFs of other projects, for beside_other_projects.py: found, or left out with a note.

A project that was cloned is given by its folder, others are found where they are installed.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import torch
from torch import nn

import _accuracy_peers as crfs
from deeplab_native import CRFParams, models, refine, weights
from deeplab_native.models._inference import ready

PARAMS = CRFParams.preset("voc-resnet101")  # those of deeplab-pytorch's configs/voc12.yaml
ITERATIONS = 10
LABELS = 21

Forward = Callable[[torch.Tensor], torch.Tensor]
"""(1, 3, H, W) float32 -> scores."""
Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(H, W, 3) uint8 and probabilities (L, H, W) float32 -> marginals (L, H, W)."""


@contextmanager
def modules_as(**replaced: ModuleType) -> Iterator[None]:
    """`import a.b` gives replaced["a_DOT_b"] within the block."""
    names = {name.replace("_DOT_", "."): module for name, module in replaced.items()}
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(names)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def of_clone(folder: Path, name: str) -> ModuleType:
    """A module of deeplab-pytorch's `libs`, imported anew."""
    for known in [known for known in sys.modules if known.partition(".")[0] == "libs"]:
        del sys.modules[known]
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def nets(clone: Path | None) -> Iterator[tuple[str, nn.Module, Forward] | tuple[str, str]]:
    """(name, net, forward), or (name, why it is left out).

    Ours has the weights of deeplab-pytorch's, where that is there.
    """
    ours = models.create_model("deeplab_resnet101_aspp", num_classes=LABELS).eval()
    if clone is None:
        yield "deeplab-pytorch", "no --deeplab-pytorch FOLDER"
    else:
        module = of_clone(clone, "libs.models")
        torch.manual_seed(0)
        net = module.DeepLabV2(LABELS, [3, 4, 23, 3], [6, 12, 18, 24]).eval()
        net.apply(module.init_weights)
        with TemporaryDirectory() as folder:
            torch.save(net.state_dict(), f"{folder}/net.pth")
            weights.load(ours, f"{folder}/net.pth")
        yield "deeplab-pytorch, DeepLab v2", net, net
    yield "deeplab_native, DeepLab v2", ours, ours
    yield "the same, as `predict` runs it", ours, partial(ready(ours, "model"), ours)
    try:
        from torchvision.models.segmentation import deeplabv3_resnet101
    except Exception as error:  # beside a torch that it was not built for: RuntimeError
        yield "torchvision", f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        other = deeplabv3_resnet101(weights=None, weights_backbone=None, num_classes=LABELS).eval()
        yield "torchvision, DeepLab v3", other, lambda x: other(x)["out"]
    try:
        from segmentation_models_pytorch import DeepLabV3
    except Exception as error:
        yield "segmentation_models.pytorch", f"{type(error).__name__}: {error}".splitlines()[0]
    else:
        third = DeepLabV3("resnet101", encoder_weights=None, classes=LABELS).eval()
        yield "segmentation_models.pytorch, DeepLab v3", third, lambda x: third(_of_eight(x))


def _of_eight(image: torch.Tensor) -> torch.Tensor:
    """Padded as segmentation_models.pytorch asks for, to multiples of 8; ours are 8 m + 1."""
    return nn.functional.pad(image, (0, -image.shape[3] % 8, 0, -image.shape[2] % 8))


def steps(
    clone: Path | None, convcrf: Path | None, monai: Path | None, threads: list[int]
) -> Iterator[tuple[str, Step | str]]:
    """(name, what refines a photograph's probabilities), or (name, why it is left out)."""
    if clone is None:
        yield "deeplab-pytorch", "no --deeplab-pytorch FOLDER"
    else:
        try:
            yield "deeplab-pytorch (pydensecrf)", _clones_crf(of_clone(clone, "libs.utils.crf"))
        except ImportError as error:
            yield "deeplab-pytorch (pydensecrf)", str(error)
        for count in threads:
            yield f"the same on the drop-in, {threads_of(count)}", _on_drop_in(clone, count)
    for count in threads:
        yield f"`refine`, {threads_of(count)}", partial(_refined, count)
    for name, folder, load in (
        ("ConvCRF, blur 4", convcrf, lambda folder: crfs.convcrf(folder, ITERATIONS, 4)),
        ("MONAI's CRF", monai, lambda folder: crfs.monai(folder, ITERATIONS)),
    ):
        if folder is None:
            yield name, "no folder of a clone"
            continue
        try:
            yield name, partial(_of_tensors, load(folder), threads[-1])
        except ImportError as error:
            yield name, str(error)


def threads_of(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def _clones_crf(module: ModuleType) -> Step:
    return module.DenseCRF(
        iter_max=ITERATIONS,
        pos_w=PARAMS.w2,
        pos_xy_std=PARAMS.sigma_gamma,
        bi_w=PARAMS.w1,
        bi_xy_std=PARAMS.sigma_alpha,
        bi_rgb_std=PARAMS.sigma_beta,
    )


def _on_drop_in(clone: Path, threads: int) -> Step:
    """The clone's own code, with our module where it imports pydensecrf."""
    from deeplab_native import pydensecrf
    from deeplab_native.pydensecrf import densecrf, utils

    names = {"pydensecrf": pydensecrf, "pydensecrf_DOT_densecrf": densecrf}
    with modules_as(**names, pydensecrf_DOT_utils=utils):
        step = _clones_crf(of_clone(clone, "libs.utils.crf"))

    def run(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        densecrf.set_num_threads(threads)
        return step(image, probabilities)

    return run


def _refined(threads: int, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    torch.set_num_threads(threads)
    _, q = refine(
        image,
        probabilities,
        kind="probabilities",
        params=PARAMS,
        iterations=ITERATIONS,
        return_probabilities=True,
    )
    return q


def _of_tensors(
    crf: crfs.Crf, threads: int, image: np.ndarray, probabilities: np.ndarray
) -> np.ndarray:
    torch.set_num_threads(threads)
    unary = -torch.from_numpy(probabilities).clamp_min(1e-30).log()[None]
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
    return crf(unary, pixels, PARAMS).numpy()
