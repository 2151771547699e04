"""How other projects name the layers of ResNet-101 and VGG-16, beside our (Caffe's) names.

Every table maps the key in the file to ours, or to None where a value means nothing to frozen batch
normalisation. The keys are those of public checkpoints:
- deeplab-pytorch (github.com/kazuto1011), `deeplabv2_resnet101_msc-*.pth`, 632 keys;
- pytorch-deeplab-resnet (github.com/isht7) and its descendants (speedinghzl, AdaptSegNet), which
  name the trunk as torchvision does;
- torchvision's resnet101 and vgg16.
"""

from __future__ import annotations

from collections.abc import Iterator

Names = dict[str, str | None]

_BLOCKS = {2: 3, 3: 4, 4: 23, 5: 3}  # bottlenecks of res2 ... res5
_BRANCHES = 4  # of ASPP
_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_VGG_FEATURES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # torchvision's conv layers
_VGG_CONVOLUTIONS = (2, 2, 3, 3, 3)


def _bottlenecks() -> Iterator[tuple[int, int, str]]:
    """(stage, block, branch) of every convolution with batch normalisation, but for conv1."""
    for stage, blocks in _BLOCKS.items():
        for block in range(1, blocks + 1):
            for branch in ("1", "2a", "2b", "2c")[block > 1 :]:
                yield stage, block, branch


def _conv_bn(ours: str, conv: str, bn: str) -> Names:
    names: Names = {f"{conv}.weight": f"{ours}.conv.weight"}
    names |= {f"{bn}.{p}": f"{ours}.bn.{p}" for p in _STATISTICS}
    names[f"{bn}.num_batches_tracked"] = None
    return names


def _classifiers(branch: str, single: str | None) -> Names:
    """ASPP's branches, named by `branch` with their number, and one layer alone."""
    names: Names = {}
    for p in ("weight", "bias"):
        for i in range(_BRANCHES):
            names[f"{branch.format(i)}.{p}"] = f"fc1.c{i}.{p}"
        if single is not None:
            names[f"{single}.{p}"] = f"fc1.{p}"
    return names


def deeplab_pytorch(*, aspp: str = "aspp.c{}") -> Names:
    """Older versions have `aspp.stages.c{}`; `fc` is the classifier of the COCO weights."""
    words = {"1": "shortcut", "2a": "reduce", "2b": "conv3x3", "2c": "increase"}
    names = _conv_bn("conv1", "layer1.conv1.conv", "layer1.conv1.bn")
    for stage, block, branch in _bottlenecks():
        theirs = f"layer{stage}.block{block}.{words[branch]}"
        ours = f"res{stage}.block{block}.branch{branch}"
        names |= _conv_bn(ours, f"{theirs}.conv", f"{theirs}.bn")
    return names | _classifiers(aspp, "fc")


def _torchvision_trunk() -> Names:
    numbers = {"2a": 1, "2b": 2, "2c": 3}
    names = _conv_bn("conv1", "conv1", "bn1")
    for stage, block, branch in _bottlenecks():
        theirs = f"layer{stage - 1}.{block - 1}"
        conv, bn = (
            ("downsample.0", "downsample.1")
            if branch == "1"
            else (f"conv{numbers[branch]}", f"bn{numbers[branch]}")
        )
        ours = f"res{stage}.block{block}.branch{branch}"
        names |= _conv_bn(ours, f"{theirs}.{conv}", f"{theirs}.{bn}")
    return names


def isht7() -> Names:
    """Trunk as torchvision's, and ASPP as `layer5`; without the prefix `Scale.` of the files."""
    return _torchvision_trunk() | _classifiers("layer5.conv2d_list.{}", None)


def torchvision_resnet101() -> Names:
    """With the 1000 ImageNet classes of `fc`."""
    return _torchvision_trunk() | {"fc.weight": "fc1.weight", "fc.bias": "fc1.bias"}


def torchvision_vgg16() -> Names:
    """fc6, fc7 and the 1000 ImageNet classes of fc8 as matrices."""
    layers = [
        f"conv{block}_{i}"
        for block, convolutions in enumerate(_VGG_CONVOLUTIONS, start=1)
        for i in range(1, convolutions + 1)
    ]
    theirs = [f"features.{i}" for i in _VGG_FEATURES] + [f"classifier.{i}" for i in (0, 3, 6)]
    pairs = zip(theirs, [*layers, "fc6", "fc7", "fc8"], strict=True)
    return {f"{a}.{p}": f"{b}.{p}" for a, b in pairs for p in ("weight", "bias")}
