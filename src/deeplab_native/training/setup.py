"""What a run is made of: data sets and net, each fault named before work starts."""

from __future__ import annotations

import difflib
import inspect
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ..crf import CRFParams
from ..data import CLASS_SETS, DATASETS, SegmentationDataset, as_class_set, open_dataset
from ..models import create_model
from ..models.base import DeepLab
from ..weights import load

if TYPE_CHECKING:
    from .config import Config


class DataSets(NamedTuple):
    """`val` is None where the configuration has none."""

    train: SegmentationDataset
    val: SegmentationDataset | None


def open_data(config: Config) -> DataSets:
    """Raises what `open_dataset` raises, and ValueError where the configuration has no root."""
    data = config.data
    if data.root is None:
        raise ValueError("data.root: missing; expected the data set's folder (give --data-root)")
    options = _checked_options(data.dataset, data.options)
    train = open_dataset(data.dataset, data.root, data.train, **options)
    if data.val is None:
        return DataSets(train, None)
    return DataSets(train, open_dataset(data.dataset, data.root, data.val, **options))


def _checked_options(dataset: str, options: dict[str, Any]) -> dict[str, Any]:
    """Raises ValueError where the data set has no such option."""
    parameters = inspect.signature(DATASETS[dataset]).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            has = ", ".join(known) if known else "none"
            hint = f"did you mean {close[0]}?" if close else f"expected one of: {has}"
            raise ValueError(f"data.options.{name}: unknown option of {dataset}; {hint}")
    return dict(options)


def class_count(config: Config) -> int:
    """Number of classes by the configuration alone, for nets without their data at hand.

    Raises ValueError where only the data set's folder says it.
    """
    classes = config.data.options.get("classes")
    if classes is not None:
        return len(as_class_set(classes))
    if config.data.dataset in CLASS_SETS:
        return len(CLASS_SETS[config.data.dataset])
    raise ValueError("data.options.classes: missing; expected names (classes.json has them)")


def build_model(config: Config, num_classes: int) -> DeepLab:
    """The net, on the default device (on "meta" without weights), with its initial weights.

    Raises what `create_model`, `weights.load` and `load_imagenet_trunk` raise.
    """
    spec = config.model
    for key in ("weights", "imagenet_trunk"):
        path = getattr(spec, key)
        if path is not None and not _on_meta() and not os.path.exists(path):
            raise FileNotFoundError(
                f"model.{key}: {path} is missing (give yours by --set model.{key}=FILE)"
            )
    try:
        model = create_model(
            spec.name, num_classes, seed=config.seed, scales=spec.scales, **spec.options
        )
    except TypeError as error:
        raise ValueError(
            f"model.options: {error} (give options that {spec.name} has, see create_model)"
        ) from None
    # create_model takes more, as rates, which the weights file would not know of
    for name in spec.options:
        if name not in model.options:
            known = ", ".join(model.options) or "none"
            raise ValueError(
                f"model.options.{name}: no option of {spec.name}; expected one of: {known}"
            )
    if _on_meta():
        return model
    if spec.weights is not None:
        load(model, spec.weights, source=spec.source, new_layers=spec.new_layers, seed=config.seed)
    if spec.imagenet_trunk is not None:
        from ..weights.mobilenet_v2 import load_imagenet_trunk

        load_imagenet_trunk(model, spec.imagenet_trunk)  # type: ignore[arg-type]
    return model


def _on_meta() -> bool:
    return torch.get_default_device().type == "meta"


def describe_data(model: DeepLab, dataset: SegmentationDataset, config: Config) -> None:
    """Class names, colours and CRF parameters, for the weights file."""
    model.class_names = dataset.classes
    model.palette = tuple((int(r), int(g), int(b)) for r, g, b in dataset.palette)
    model.crf = None if config.crf is None else CRFParams(**config.crf.model_dump())
