"""Masks in the files of annotation programs: COCO's and LabelMe's."""

from .coco import Coco, CocoImage, read_coco, read_results, segmentation_like, segmentation_mask
from .documents import write_document
from .labelme import LabelMe, Shape, labelme_shapes, read_labelme, shape_mask
from .polygons import coco_polygons, fill_polygons
from .rle import decode_rle, encode_rle

__all__ = [
    "Coco",
    "CocoImage",
    "LabelMe",
    "Shape",
    "coco_polygons",
    "decode_rle",
    "encode_rle",
    "fill_polygons",
    "labelme_shapes",
    "read_coco",
    "read_labelme",
    "read_results",
    "segmentation_like",
    "segmentation_mask",
    "shape_mask",
    "write_document",
]
