"""The recipe against section 4.1 of the paper and the authors' solver files, number by number."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deeplab_native.models import create_model, score_map_loss
from deeplab_native.training import (
    Batch,
    CaffeSGD,
    TrainingLoss,
    WeightAverage,
    check_config,
    learning_rate,
    parameter_groups,
    train,
)
from deeplab_native.training.config import HeadFirst, Loss, Multiplier, Optimizer, Schedule
from python_tests.models.small_net import SmallNet
from python_tests.training import training_cases as cases


def rates(at, **schedule):
    chosen = Schedule(**schedule)
    return [learning_rate(chosen, Optimizer(lr=1e-3), i) for i in at]


def test_poly():
    expected = [1e-3, 1e-3 * 0.75**0.9, 1e-3 * 0.5**0.9, 1e-3 * (1 / 20000) ** 0.9]
    assert rates((0, 5000, 10000, 19999), iterations=20000) == pytest.approx(expected, rel=1e-12)


def test_step():
    its = (0, 1999, 2000, 3999, 4000, 5999)
    expected = [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5]
    assert rates(its, policy="step", iterations=6000) == pytest.approx(expected, rel=1e-12)


def test_constant_warmup_and_head_first():
    found = rates(
        range(7),
        policy="constant",
        iterations=4,
        warmup=2,
        head_first=HeadFirst(iterations=3, lr=0.5),
    )
    assert found == pytest.approx([0.5] * 3 + [5e-4, 1e-3, 1e-3, 1e-3], rel=1e-12)
    after = rates([3, 5], iterations=4, head_first=HeadFirst(iterations=3))  # poly begins anew
    assert after == pytest.approx([1e-3, 1e-3 * 0.5**0.9], rel=1e-12)


def caffe(weights, gradients, rates, momentum, decay):
    """Caffe's SGDSolver on one number."""
    history = 0.0
    for gradient, rate in zip(gradients, rates, strict=True):
        history = momentum * history + rate * (gradient + decay * weights)
        weights -= history
    return weights


def test_caffe_sgd():
    """With a rate that changes; torch.optim.SGD differs there by its third update."""
    gradients, lrs = (1.0, -2.0, 0.5, 3.0), (0.1, 0.01, 0.2, 0.1)
    ends = {}
    for optimizer_class in (CaffeSGD, torch.optim.SGD):
        weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        optimizer = optimizer_class([weight], lr=1.0, momentum=0.9, weight_decay=0.05)
        for gradient, lr in zip(gradients, lrs, strict=True):
            optimizer.param_groups[0]["lr"] = lr
            weight.grad = torch.full_like(weight, gradient)
            optimizer.step()
        ends[optimizer_class] = float(weight.detach())
    expected = caffe(2.0, gradients, lrs, 0.9, 0.05)
    assert ends[CaffeSGD] == pytest.approx(expected, rel=1e-12)
    assert abs(ends[torch.optim.SGD] - expected) > 0.01


def test_caffe_sgd_leaves_what_has_no_gradient():
    resting, moving = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = CaffeSGD([resting, moving], lr=0.1)
    moving.grad = torch.ones(2)
    optimizer.step()
    assert resting.tolist() == [1, 1] and moving.tolist() != [1, 1]
    assert resting not in optimizer.state


@pytest.mark.parametrize(
    "arguments",
    [{"lr": -1}, {"lr": math.nan}, {"lr": 1, "momentum": 1}, {"lr": 1, "weight_decay": -1}],
)
def test_caffe_sgd_refuses(arguments):
    with pytest.raises(ValueError, match="expected"):
        CaffeSGD([nn.Parameter(torch.ones(1))], **arguments)


@pytest.mark.parametrize("name", ["deeplab_vgg16_aspp_l", "deeplab_resnet101_aspp"])
def test_groups(name):
    """VGG: biases twice as fast; ResNet: no biases but the classifiers', no batch normalisation."""
    with torch.device("meta"):
        model = create_model(name)
    groups = {g["name"]: g for g in parameter_groups(model, Optimizer())}
    names = {id(p): n for n, p in model.named_parameters()}
    of = {key: [names[id(p)] for p in g["params"]] for key, g in groups.items()}
    multipliers = {k: (g["lr_multiplier"], g["weight_decay"]) for k, g in groups.items()}
    expected = {
        "trunk_weight": (1, 5e-4),
        "trunk_bias": (2, 0),
        "classifier_weight": (10, 5e-4),
        "classifier_bias": (20, 0),
    }
    if "vgg" in name:
        last = [f"fc8_{i}" for i in range(1, 5)]
        assert "fc7_1.bias" in of["trunk_bias"] and "conv1_1.weight" in of["trunk_weight"]
        assert sum(map(len, of.values())) == len(names)
    else:
        last = [f"fc1.c{i}" for i in range(4)]
        del expected["trunk_bias"]
        assert not any(".bn." in n for members in of.values() for n in members)
        assert len(of["trunk_weight"]) == 104
    assert multipliers == expected
    assert of["classifier_weight"] == [f"{n}.weight" for n in last]
    assert of["classifier_bias"] == [f"{n}.bias" for n in last]


def batch(size=33, images=2):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 4, (images, size, size), generator=generator, dtype=torch.uint8)
    labels[0, :, : 3 * size // 4] = 255  # images with different numbers of pixels that count
    inside = [(size, 0, size), (size - 8, 5, size - 3)][:images]
    return Batch(pixels, labels, inside, ["a", "b"][:images], [])


@pytest.mark.parametrize("scales", [(1.0,), (1.0, 0.75, 0.5)])
def test_loss_is_the_authors(scales):
    net = SmallNet(scales=scales)
    data = batch()
    loss = TrainingLoss(net, Loss(), channels_last=False)
    expected = score_map_loss(net.multi_scale(loss.prepare(data)), data.labels)
    torch.testing.assert_close(loss(data), expected)
    # by image: Caffe's batches of one, averaged (iter_size)
    by_image = TrainingLoss(net, Loss(normalization="image"), channels_last=True)
    single = [
        score_map_loss(net.multi_scale(loss.prepare(data)[i : i + 1]), data.labels[i : i + 1])
        for i in range(2)
    ]
    torch.testing.assert_close(by_image(data), torch.stack(single).mean())
    assert abs(by_image(data) - loss(data)) > 1e-3


def test_loss_at_the_input():
    net, data = SmallNet(), batch()
    loss = TrainingLoss(net, Loss(at="input"), channels_last=False)
    scores = nn.functional.interpolate(
        net(loss.prepare(data)), (33, 33), mode="bilinear", align_corners=True
    )
    expected = nn.functional.cross_entropy(scores, data.labels.long(), ignore_index=255)
    torch.testing.assert_close(loss(data), expected)


def test_nothing_but_void_is_no_loss():
    net, data = SmallNet(), batch()
    data.labels.fill_(255)
    for normalization in ("batch", "image"):
        value = TrainingLoss(net, Loss(normalization=normalization), channels_last=False)(data)
        assert value == 0


def test_padding_is_the_mean_colour():
    net, data = SmallNet(), batch()
    x = TrainingLoss(net, Loss(), channels_last=True).prepare(data)
    assert x.is_contiguous(memory_format=torch.channels_last)
    expected = net.preprocessing(data.images)
    expected[1, :, 25:] = 0
    expected[1, :, :, :5] = 0
    expected[1, :, :, 30:] = 0
    assert torch.equal(x, expected)


@pytest.mark.parametrize("normalization", ["batch", "image"])
def test_iter_size(tmp_path, monkeypatch, normalization):
    """Gradients of 4 passes of one image, averaged; with "image" it is one pass of four."""
    cases.register_tiny_net(monkeypatch)
    monkeypatch.setattr(
        cases.TinyNet, "train", lambda self, mode=True: nn.Module.train(self, False)
    )
    root = cases.write_shapes(tmp_path / "shapes", 4, 1)
    labels = root / "labels/00.png"
    mostly_void = np.array(Image.open(labels))
    mostly_void[:, 16:] = 255
    Image.fromarray(mostly_void).save(labels)
    ends = []
    for accumulate in (1, 4):
        config = cases.config_of(
            root,
            accumulate=accumulate,
            schedule={"iterations": 3},
            loss={"normalization": normalization},
        )
        train(config, tmp_path / str(accumulate))
        ends.append(cases.weights_of(tmp_path / str(accumulate)))
    largest = max(float((a - ends[1][key]).abs().max()) for key, a in ends[0].items())
    assert largest < 1e-5 if normalization == "image" else largest > 1e-4


def test_average():
    model = nn.Linear(1, 1, bias=False)
    values, average = [3.0, -1.0, 2.0, 5.0], None
    with torch.no_grad():
        model.weight.fill_(10.0)
        average = WeightAverage(model, 0.3)
        expected = 10.0
        for i, value in enumerate(values, start=1):
            model.weight.fill_(value)
            average.update()
            d = min(0.3, (1 + i) / (10 + i))
            expected = d * expected + (1 - d) * value
    assert float(average.averages["weight"]) == pytest.approx(expected, rel=1e-6)
    with average.applied():
        assert float(model.weight.detach()) == pytest.approx(expected, rel=1e-6)
    assert float(model.weight.detach()) == 5.0


def test_multipliers_of_the_configuration():
    changed = Optimizer(weight_decay=0.1, trunk_weight=Multiplier(lr=3, decay=0.5))
    groups = {g["name"]: g for g in parameter_groups(SmallNet(), changed)}
    assert groups["trunk_weight"]["lr_multiplier"] == 3
    assert groups["trunk_weight"]["weight_decay"] == pytest.approx(0.05)


def test_defaults_are_the_papers():
    config = check_config({"model": {"name": "a"}, "data": {"dataset": "voc"}})
    assert config.augmentation.scales == (0.5, 0.75, 1.0, 1.25, 1.5)
    assert (config.augmentation.crop, config.augmentation.mirror) == (321, True)
    assert (config.optimizer.momentum, config.optimizer.weight_decay) == (0.9, 5e-4)
    assert (config.schedule.policy, config.schedule.power) == ("poly", 0.9)
    assert (config.loss.at, config.ema, config.optimizer.clip) == ("score map", None, None)
