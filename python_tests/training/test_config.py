"""Configurations: those of the paper's tables, and what is said about wrong ones."""

import pytest
import torch
import yaml

from deeplab_native.training import check_config, dump_config, load_config, shipped_configs
from deeplab_native.training.setup import build_model, class_count
from python_tests.cli.cli_cases import fails

VGG, RES = "deeplab_vgg16_", "deeplab_resnet101"
V2_VGG, V2_RES = (4, 65, 3, 2, 2), (4, 67, 3, 3, 1)
MSC = (1.0, 0.75, 0.5)
AUG = (0.5, 0.75, 1.0, 1.25, 1.5)
# net, images of an update, iterations, policy, CRF, input scales, random scales, mIOU, with CRF
ROWS = {
    "voc12/table1_7x7": (f"{VGG}7x7", 20, 6000, "step", (4, 72, 5, 3, 3), (1,), (1,), 64.38, 67.64),
    "voc12/table1_4x4": (f"{VGG}4x4", 20, 6000, "step", (5, 50, 10, 3, 3), (1,), (1,), 59.8, 63.74),
    "voc12/table1_4x4_r8": (
        *(f"{VGG}4x4_r8", 20, 6000, "step", (4, 56, 4, 3, 3), (1,), (1,), 63.41, 67.14),
    ),
    "voc12/table1_largefov": (
        *(f"{VGG}largefov", 30, 6000, "step", (4, 121, 5, 3, 3), (1,), (1,), 62.25, 67.64),
    ),
    **{
        f"voc12/table2_{policy}_b{batch}_{iterations // 1000}k": (
            *(f"{VGG}largefov", batch, iterations, policy, V2_VGG, (1,), (1,), miou, None),
        )
        for policy, batch, iterations, miou in (
            ("step", 30, 6000, 62.25),
            ("poly", 30, 6000, 63.42),
            ("poly", 30, 10000, 64.9),
            ("poly", 10, 10000, 64.71),
            ("poly", 10, 20000, 65.88),
        )
    },
    **{
        f"voc12/table3_{head}": (VGG + head, 10, 20000, "poly", V2_VGG, (1,), (1,), before, after)
        for head, before, after in (
            ("largefov", 65.76, 69.84),
            ("aspp_s", 66.98, 69.73),
            ("aspp_l", 68.96, 71.57),
        )
    },
    **{
        name: (RES + head, 10, 20000, "poly", V2_RES, scales, random, before, after)
        for name, head, scales, random, before, after in (
            ("voc12/table4_resnet101", "", (1,), (1,), 68.72, None),
            ("voc12/table4_msc", "", MSC, (1,), 71.27, None),
            ("voc12/table4_msc_coco", "", MSC, (1,), 73.28, None),
            ("voc12/table4_msc_coco_aug", "", MSC, AUG, 74.87, None),
            ("voc12/table4_msc_coco_aug_largefov", "_largefov", MSC, AUG, 75.54, None),
            ("voc12/table4_msc_coco_aug_aspp", "_aspp", MSC, AUG, 76.35, 77.69),
            ("context/table6_resnet101", "", (1,), (1,), 39.6, None),
            ("context/table6_msc", "", MSC, (1,), 41.4, None),
            ("context/table6_msc_coco", "", MSC, (1,), 42.9, None),
            ("context/table6_msc_coco_aug_largefov", "_largefov", MSC, AUG, 43.5, None),
            ("context/table6_msc_coco_aug_aspp", "_aspp", MSC, AUG, 44.7, 45.7),
            ("person_part/table7_resnet101", "", (1,), (1,), 58.9, None),
            ("person_part/table7_msc", "", MSC, (1,), 63.1, None),
            ("person_part/table7_msc_coco_aug", "", MSC, AUG, 64.4, 64.94),
            ("person_part/table7_msc_coco_aug_largefov", "_largefov", MSC, AUG, 62.18, None),
            ("person_part/table7_msc_coco_aug_aspp", "_aspp", MSC, AUG, 62.76, None),
            ("cityscapes/table9_resnet101", "", (1,), (1,), 66.6, None),
            ("cityscapes/table9_resnet101_largefov", "_largefov", (1,), (1,), 69.2, None),
            ("cityscapes/table9_resnet101_aspp", "_aspp", (1,), (1,), 70.4, None),
            ("cityscapes/table9_resnet101_aspp_aug", "_aspp", (1,), AUG, 71.0, 71.4),
        )
    },
    **{
        name: (f"{VGG}largefov", 10, 20000, "poly", V2_VGG, (1,), random, before, after)
        for name, random, before, after in (
            ("context/table6_vgg16_largefov", (1,), 37.6, 39.6),
            ("cityscapes/table9_vgg16_largefov", (1,), 64.89, 65.94),
            ("cityscapes/table9_vgg16_largefov_half", (0.5,), 62.97, 64.18),
        )
    },
}
CLASSES = {"voc12": 21, "context": 60, "person_part": 7, "cityscapes": 19}


def test_every_row_has_a_configuration():
    assert sorted(shipped_configs()) == sorted([*ROWS, "folder/mobilenetv2"])


@pytest.mark.parametrize("name", ROWS)
def test_row(name):
    config = load_config(shipped_configs()[name])
    net, batch, iterations, policy, crf, scales, random, before, after = ROWS[name]
    assert (config.model.name, config.batch) == (net, batch)
    assert (config.schedule.policy, config.schedule.power) == (policy, 0.9)
    assert (config.schedule.step, config.schedule.gamma) == (2000, 0.1)
    assert config.iterations == config.schedule.iterations == iterations
    assert tuple(config.crf.model_dump().values()) == crf
    assert (config.model.scales, config.augmentation.scales) == (scales, random)
    assert (config.paper.miou, config.paper.miou_crf) == (before, after)
    assert name.split("/")[1].startswith(config.paper.row[:7].lower().replace(" ", ""))
    resnet = net.startswith(RES)
    optimizer = config.optimizer
    assert (optimizer.lr, optimizer.momentum) == (2.5e-4 if resnet else 1e-3, 0.9)
    assert (optimizer.weight_decay, optimizer.clip) == (5e-4, None)
    assert (config.accumulate, config.loss.normalization) == (
        (10, "image") if resnet else (1, "batch")
    )
    assert (config.augmentation.crop, config.augmentation.mirror) == (321, True)
    assert config.model.weights.endswith("init.caffemodel" if "coco" in name else ".caffemodel")
    with torch.device("meta"):
        model = build_model(config, class_count(config))
    assert model.num_classes == CLASSES[name.split("/")[0]]
    assert model.scales == scales


def test_half_resolution_is_evaluated_so():
    config = load_config(shipped_configs()["cityscapes/table9_vgg16_largefov_half"])
    assert config.validation.scale == 0.5


def test_a_configuration_comes_back(tmp_path):
    config = load_config(shipped_configs()["folder/mobilenetv2"], ["data.root=x", "ema=0.99"])
    assert (config.data.root, config.ema) == ("x", 0.99)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config


def test_a_label_map_comes_back(tmp_path):
    """With the numbers that it had, and not JSON's texts."""
    options = {"classes": 2, "label_map": {0: 0, 7: 1, 255: 255}}
    config = check_config(LEAST | {"data": {"dataset": "folder", "options": options}})
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml").data.options == options


LEAST = {"model": {"name": "deeplab_resnet101"}, "data": {"dataset": "voc"}}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"iteration": 3}, "c: iteration: unknown key; did you mean "),
        ({"optimizer": {"momentun": 1}}, "optimizer.momentun: unknown key; did you mean momentum?"),
        ({"optimizer": {"qqq": 1}}, "optimizer.qqq: unknown key; expected one of lr, momentum, "),
        ({"optimizer": {"lr": "1e-3"}}, "optimizer.lr: expected number, got '1e-3' (YAML takes 1e"),
        ({"optimizer": {"lr": -1}}, "optimizer.lr: expected greater than 0, got -1"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr: expected "),
        ({"batch": 10.5}, "batch: expected integer, got 10.5"),
        ({"batch": True}, "batch: expected integer, got True"),
        ({"augmentation": {"scales": []}}, "augmentation.scales: "),
        (
            {"augmentation": {"scales": [0.5, "a"]}},
            "augmentation.scales.1: expected number",
        ),
        ({"augmentation": {"scale_range": [2, 1]}}, "scale_range: expected (least, most), got (2"),
        ({"augmentation": {"mirror": "yes"}}, "augmentation.mirror: expected boolean, got 'yes'"),
        (
            {"schedule": {"policy": "cosine"}},
            "schedule.policy: expected 'poly', 'step' or ",
        ),
        ({"accumulate": 3}, "accumulate: expected a divisor of batch 10, got 3"),
        ({"data": {"dataset": "coco"}}, "dataset: expected one of voc, "),
        ({"data": {}}, "data.dataset: missing; expected a value"),
        ({"model": {"name": "a", "scales": [0.5]}}, "scales: expected 1.0 among them"),
        ({"loss": 3}, "loss: expected "),
    ],
)
def test_what_is_wrong_is_named(change, message):
    with pytest.raises(ValueError) as error:
        check_config(LEAST | change, "c")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_all_that_is_wrong_is_listed():
    with pytest.raises(ValueError, match=r"^c: batch: .*; ema: .*; seed: ") as error:
        check_config(LEAST | {"batch": 0, "ema": 1.5, "seed": -1}, "c")
    assert str(error.value).count(";") == 2


def test_extends_and_set(tmp_path):
    base = LEAST | {"optimizer": {"lr": 0.1, "clip": 3}, "batch": 4}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    (tmp_path / "c.yaml").write_text("extends: base.yaml\noptimizer: {lr: 0.2}\n")
    config = load_config(tmp_path / "c.yaml", ["batch=8", "augmentation.scales=[1, 2]"])
    assert (config.optimizer.lr, config.optimizer.clip, config.batch) == (0.2, 3, 8)
    assert config.augmentation.scales == (1.0, 2.0)
    (tmp_path / "base.yaml").write_text("extends: c.yaml\n")
    with pytest.raises(ValueError, match="extends itself"):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(ValueError, match=r"expected key\.sub=value"):
        load_config(shipped_configs()["voc12/table4_msc"], ["batch"])


@pytest.mark.parametrize("content", ["a: [1", "- 1\n- 2\n", "extends: 3\n", b"\xff\xfe\x00"])
def test_files_that_are_no_configuration(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"expected|no YAML"):
        load_config(path)


def test_command_lists_and_suggests(run, tmp_path):
    result = run("train", "--list")
    assert result.code == 0
    assert "voc12/table4_msc_coco_aug_aspp" in result.out and "77.69" in result.out
    wrong = run("train", "voc12/table4_mcs", "--out", tmp_path / "run")
    fails(wrong, "did you mean voc12/table4_msc?")
    fails(run("train", "voc12/table4_msc", "--out", tmp_path / "run"), "data.root: missing")
