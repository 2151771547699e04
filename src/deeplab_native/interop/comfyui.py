"""A node of ComfyUI that sharpens masks; nothing of ComfyUI is imported.

A file in ComfyUI's folder `custom_nodes` with one line makes it known:

    from deeplab_native.interop.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

The protocol: https://docs.comfy.org/custom-nodes/backend/server_overview
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from .. import _C
from ..crf import CRFParams, refine

_PRESET = CRFParams.preset("voc-resnet101")


def _slider(
    default: Any, low: float, high: float, step: float, tooltip: str
) -> tuple[str, dict[str, Any]]:
    default = int(default) if isinstance(step, int) else float(default)
    about = {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip}
    return ("INT" if isinstance(step, int) else "FLOAT", about)


class RefineMaskNode:
    """IMAGE and MASK in, MASK out."""

    CATEGORY = "mask"
    DESCRIPTION = (
        "Draws a mask's outline along what is in the image, by a fully connected CRF. Soft masks "
        "are taken as probabilities, hard ones as right with the given confidence."
    )
    FUNCTION = "refine_mask"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)
    OUTPUT_TOOLTIPS = ("The refined mask, one for each image or mask of the batch.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Any]]:  # noqa: N802 (ComfyUI's name)
        """The node's inputs and widgets."""
        images: dict[str, Any] = {
            "image": ("IMAGE", {"tooltip": "The photograph that the mask is of."}),
            "mask": ("MASK", {"tooltip": "The mask to refine; one for all images, or one each."}),
        }
        widgets = {
            "confidence": _slider(
                0.7, 0.51, 0.99, 0.01, "How often a hard mask is right: the lower, the more moves."
            ),
            "sigma_alpha": _slider(
                _PRESET.sigma_alpha, 1.0, 300.0, 1.0, "How far pixels influence others, in pixels."
            ),
            "sigma_beta": _slider(
                _PRESET.sigma_beta, 0.5, 60.0, 0.5, "How different colours count as alike, of 255."
            ),
            "w1": _slider(_PRESET.w1, 0.0, 30.0, 0.1, "How much pixels of like colours count."),
            "w2": _slider(_PRESET.w2, 0.0, 30.0, 0.1, "How much near pixels of any colour count."),
            "sigma_gamma": _slider(
                _PRESET.sigma_gamma, 0.5, 20.0, 0.5, "What is near for w2, in pixels."
            ),
            "iterations": _slider(10, 1, 30, 1, "Of mean field; 5 to 10 are enough."),
            "output": (
                ["mask", "belief"],
                {"default": "mask", "tooltip": "0 and 1, or how sure the CRF is of each pixel."},
            ),
            "device": (
                ["auto", "cpu", "cuda"],
                {"default": "auto", "tooltip": "auto: the GPU where there is one."},
            ),
        }
        return {"required": images | widgets}

    def refine_mask(
        self, image: torch.Tensor, mask: torch.Tensor, output: str, device: str, **params: float
    ) -> tuple[torch.Tensor]:
        """The refined mask.

        Args:
            image: (B, H, W, 3) float 0..1.
            mask: (B, H, W), (1, H, W) or (H, W) float 0..1; of another height or width it is
                interpolated.
            output: "mask" or "belief".
            device: "auto", "cpu" or "cuda".
            **params: of `refine`: confidence, w1, sigma_alpha and so on.

        Returns:
            ((B, H, W) float32 0..1,), on the mask's device.

        Raises:
            ValueError: other shapes.
        """
        if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
            raise ValueError(f"`image`: expected (B, H, W, 3), got {tuple(image.shape)}")
        planes = mask[None] if mask.ndim == 2 else mask
        if planes.ndim != 3 or len({1, len(planes), len(image)}) > 2:
            raise ValueError(
                f"`mask`: expected (B, H, W), one for all or for each of {len(image)} images, got "
                f"{tuple(mask.shape)}"
            )
        size = [int(n) for n in image.shape[1:3]]
        planes = planes.float()
        if list(planes.shape[1:]) != size:
            planes = F.interpolate(planes[:, None], size=size, mode="bilinear")[:, 0]
        where = device if device != "auto" else "cuda" if _gpu() else "cpu"
        count = max(len(image), len(planes))
        pictures = image[..., :3].clamp(0, 1).expand(count, -1, -1, -1)
        planes = planes.clamp(0, 1).expand(count, -1, -1)
        options: dict[str, Any] = {"image_range": (0, 1), "device": where, **params}
        made = []
        for picture, plane in zip(pictures, planes, strict=True):
            hard = bool(((plane == 0) | (plane == 1)).all())
            kind = "mask" if hard else "probabilities"
            found, q = refine(picture, plane, kind=kind, return_probabilities=True, **options)
            made.append((q[1] if output == "belief" else found).float())
        return (torch.stack(made).to(mask.device),)


def _gpu() -> bool:
    return _C.has_cuda and torch.cuda.is_available()


NODE_CLASS_MAPPINGS = {"DeeplabNativeRefineMask": RefineMaskNode}
NODE_DISPLAY_NAME_MAPPINGS = {"DeeplabNativeRefineMask": "Refine mask (dense CRF)"}
