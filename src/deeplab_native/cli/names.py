"""Names that the help has and that the library knows, which is too slow to ask for them there."""

from __future__ import annotations

# of `data.DATASETS`
DATASETS = ("voc", "pascal-context", "pascal-person-part", "cityscapes", "camvid", "folder")

# of `models.list_models`
MODELS = (
    "deeplab_vgg16_7x7",
    "deeplab_vgg16_4x4",
    "deeplab_vgg16_4x4_r8",
    "deeplab_vgg16_largefov",
    "deeplab_vgg16_aspp_s",
    "deeplab_vgg16_aspp_l",
    "deeplab_resnet101",
    "deeplab_resnet101_largefov",
    "deeplab_resnet101_aspp",
    "deeplab_mobilenetv2_largefov",
    "deeplab_mobilenetv2_aspp_s",
    "deeplab_mobilenetv2_aspp_l",
    "deeplab_mobilenetv2_aspp",
)
