"""What a weights file of ours says about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from ..crf import CRFParams
from ..models.base import DeepLab
from ..models.multi_scale import check_scales
from ..models.preprocessing import Preprocessing

FORMAT = "deeplab_native/1"
"""Files of this format may lack `class_names`, `palette`, `crf` and `scales`, which came later."""


@dataclass(frozen=True)
class Metadata:
    """What a weights file of ours says about itself.

    Attributes:
        model, num_classes, options: the arguments of `create_model`.
        preprocessing: the input format.
        class_names: one a class; None where the file has none.
        palette: (r, g, b) of every class, 0..255; or None.
        crf: parameters of the CRF found for these weights; or None.
        scales: of the net that was saved. `load` leaves those of its net, `load_model` takes them.
    """

    model: str
    num_classes: int
    options: dict[str, Any]
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    palette: tuple[tuple[int, int, int], ...] | None = None
    crf: CRFParams | None = None
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", check_scales(self.scales))
        if self.class_names is not None:
            names = tuple(self.class_names)
            if isinstance(self.class_names, str) or not all(isinstance(n, str) for n in names):
                raise TypeError(f"class_names: expected strings, got {self.class_names!r:.200}")
            if len(names) != self.num_classes:
                raise ValueError(
                    f"class_names: expected one for each of {self.num_classes} classes, "
                    f"got {len(names)}"
                )
            object.__setattr__(self, "class_names", names)
        if self.palette is not None:
            colours = tuple(tuple(int(v) for v in colour) for colour in self.palette)
            if len(colours) != self.num_classes:
                raise ValueError(
                    f"palette: expected a colour for each of {self.num_classes} classes, "
                    f"got {len(colours)}"
                )
            if not all(len(c) == 3 and min(c) >= 0 and max(c) <= 255 for c in colours):
                raise ValueError("palette: expected colours (r, g, b) of 0..255")
            object.__setattr__(self, "palette", colours)
        if self.crf is not None and not isinstance(self.crf, CRFParams):
            raise TypeError(f"crf: expected CRFParams or None, got {type(self.crf).__name__}")

    @classmethod
    def of(cls, model: DeepLab) -> Metadata:
        """Raises TypeError or ValueError where an attribute of the net has another form."""
        return cls(
            model=model.name,
            num_classes=model.num_classes,
            options=as_json(model.options),
            preprocessing=model.preprocessing,
            class_names=model.class_names,
            palette=model.palette,
            crf=model.crf,
            scales=model.scales,
        )

    def put_on(self, model: DeepLab, *, classes: bool = True) -> None:
        """Gives a net what belongs to its weights; what the file lacks stays as it is.

        Without `classes` so does all that belongs to the classifier.
        """
        model.preprocessing = self.preprocessing
        for name in ("class_names", "palette", "crf") if classes else ():
            value = getattr(self, name)
            if value is not None:
                setattr(model, name, value)

    def header(self) -> dict[str, str]:
        """As the metadata of a safetensors file, strings by name."""
        result = {
            "format": FORMAT,
            "model": self.model,
            "num_classes": str(self.num_classes),
            "options": json.dumps(self.options),
            "preprocessing": json.dumps(asdict(self.preprocessing)),
        }
        if self.class_names is not None:
            result["class_names"] = json.dumps(self.class_names, ensure_ascii=False)
        if self.palette is not None:
            result["palette"] = json.dumps(self.palette)
        if self.crf is not None:
            values = {name: _as_json(value) for name, value in vars(self.crf).items()}
            result["crf"] = json.dumps(values)
        if self.scales != (1.0,):
            result["scales"] = json.dumps(self.scales)
        return result

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> Metadata:
        """Raises ValueError where an entry is missing or damaged."""
        try:
            options = json.loads(header["options"])
            if not isinstance(options, dict):
                raise TypeError(f"options: expected a dictionary, got {type(options).__name__}")
            crf = json.loads(header["crf"]) if "crf" in header else None
            return cls(
                model=header["model"],
                num_classes=int(header["num_classes"]),
                options=options,
                preprocessing=Preprocessing(**json.loads(header["preprocessing"])),
                class_names=_optional(header, "class_names"),
                palette=_optional(header, "palette"),
                crf=None if crf is None else _crf(crf),
                scales=json.loads(header.get("scales", "[1.0]")),
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"damaged metadata: {error!r}") from error


def as_json(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they come back from a file: tuples are lists there."""
    result: dict[str, Any] = json.loads(json.dumps(dict(options)))
    return result


def _optional(header: Mapping[str, str], name: str) -> Any:
    return json.loads(header[name]) if name in header else None


def _crf(values: Any) -> CRFParams:
    """Of all five values: one that is missing must not become a default."""
    if not isinstance(values, dict):
        raise TypeError(f"crf: expected the values of CRFParams, got {type(values).__name__}")
    missing = [f.name for f in fields(CRFParams) if f.name not in values]
    if missing:
        raise ValueError(f"crf: {', '.join(missing)} missing")
    return CRFParams(**values)


def _as_json(value: Any) -> Any:
    """Of `CRFParams`: learned weights are tensors, sigmas may be several."""
    if isinstance(value, tuple):
        return [float(v) for v in value]
    return float(value.detach() if isinstance(value, torch.Tensor) else value)
