"""`refine` for what other programs hold: instances, COCO, LabelMe, transformers, transforms.

Each takes the options of `refine` and leaves what it is given as it was. No other library is
imported unless what is given is of it. `deeplab_native.interop.comfyui` has the ComfyUI node.
"""

from .._annotations import (
    Coco,
    LabelMe,
    coco_polygons,
    decode_rle,
    encode_rle,
    fill_polygons,
    labelme_shapes,
    read_coco,
    read_labelme,
)
from .coco import refine_coco, refine_rle
from .detections import refine_detections
from .instances import boxes_of, refine_masks
from .labelme import refine_labelme
from .segmentation import refine_segmentation
from .transforms import RefineMask

__all__ = [
    "Coco",
    "LabelMe",
    "RefineMask",
    "boxes_of",
    "coco_polygons",
    "decode_rle",
    "encode_rle",
    "fill_polygons",
    "labelme_shapes",
    "read_coco",
    "read_labelme",
    "refine_coco",
    "refine_detections",
    "refine_labelme",
    "refine_masks",
    "refine_rle",
    "refine_segmentation",
]
