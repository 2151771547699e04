"""What `deeplab-native segment` does once its options are checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import typer
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from .. import viz
from .._files import atomic_path, check_output
from .._images import by_stem, picture_suffixes, read_image
from ..crf import CRFParams
from ..models import DeepLab, create_model
from ..models.multi_scale import PAPER_SCALES as PAPER_SCALES
from ..models.predict import predict
from ..models.tiles import Progress as TileProgress
from ..weights import EMBEDDED, load_model
from . import console, options
from .report import label_table

_OVERLAYS = "overlays"  # the folder of them: no label PNG can have their names there
_CLASSES = "classes.json"


@dataclass(frozen=True)
class Settings:
    """How an image is labelled; arguments of `predict`."""

    crf: CRFParams | None
    iterations: int
    normalization: str
    scale: float
    tile: int | None
    overlap: int | None
    longest_side: int | None

    def describe_crf(self) -> str:
        if self.crf is None:
            return "none"
        return (
            f"{options.describe(self.crf)}, {self.iterations} iterations, {self.normalization}"
            f"{options.describe_scale(self.scale)}"
        )


def photographs(paths: Sequence[Path]) -> dict[str, Path]:
    """The files, and the pictures in the folders, by their names without suffix, in their order.

    Raises FileNotFoundError for what is not there, ValueError for a folder without pictures and
    for two files whose results would have the same name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such picture or folder (check the path)")
        files = (
            by_stem(path, picture_suffixes(), "pictures") if path.is_dir() else {path.stem: path}
        )
        for stem, file in files.items():
            other = found.setdefault(stem, file)
            if other != file:
                raise ValueError(
                    f"{other} and {file} would both become {stem}.png (segment them into two "
                    "folders)"
                )
    return found


@dataclass(frozen=True)
class Results:
    """The files of a run."""

    folder: Path
    overlays: bool

    def labels(self, stem: str) -> Path:
        return self.folder / f"{stem}.png"

    def overlay(self, stem: str) -> Path:
        return self.folder / _OVERLAYS / f"{stem}.png"

    def check(self, given: Iterable[Path], photographs: Mapping[str, Path]) -> None:
        """Raises OSError or ValueError where a result could not be written, or over an input.

        `given` is what the user named, `photographs` what is in it.
        """
        for folder in self.folders():
            if folder.exists() and not folder.is_dir():
                raise NotADirectoryError(f"--output {folder} is a file (give a folder)")
        if self.folder.resolve() in {path.resolve() for path in given}:
            raise ValueError(
                f"--output {self.folder}: results would lie among the photographs (give another "
                "folder)"
            )
        results = {self.labels(stem).resolve() for stem in photographs}
        for path in photographs.values():
            if path.resolve() in results:
                raise ValueError(
                    f"--output {self.folder}: {path.name} would be written over (give another "
                    "folder)"
                )
        above = (self.folder, *self.folder.absolute().parents)
        there = next(path for path in above if path.exists())
        check_output(there / _CLASSES)

    def folders(self) -> list[Path]:
        return [self.folder] + [self.folder / _OVERLAYS] * self.overlays

    def write_classes(self, names: Sequence[str]) -> None:
        """Makes the folders; raises ValueError where there are label PNGs of other classes."""
        for folder in self.folders():
            folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _CLASSES
        text = json.dumps({str(i): name for i, name in enumerate(names)}, indent=1) + "\n"
        if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
            raise ValueError(
                f"{path} names other classes than the network has (give another folder)"
            )
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def network(model: str | None, num_classes: int | None, weights: Path | None) -> DeepLab:
    """The net that the user asked for, or the one of the package."""
    with console.status(f"Building {model or 'the network'}"):
        if model is None:
            return load_model(weights or EMBEDDED, num_classes=num_classes)
        # without weights, random ones that are the same every time
        made = create_model(model, num_classes or 21, weights=weights, seed=0)
    if weights is None:
        console.err.print(
            f"WARNING: no --weights for {model}: they are random and the LABELS ARE MEANINGLESS; "
            "only the flow and the time are real.",
            style="bold red",
        )
    return made


def origin(model: str | None, weights: Path | None) -> str:
    """Where the weights are from, for the report."""
    if weights is not None:
        return str(weights)
    return "weights of the package" if model is None else "RANDOM weights: the labels mean nothing"


def run(
    network: DeepLab,
    photographs: dict[str, Path],
    results: Results,
    settings: Settings,
    *,
    palette: str | None,
    threads: int,
    origin: str,
) -> None:
    """Labels every photograph; raises typer.Exit(1) where one could not be."""
    colours = viz.named_palette(palette or "voc")
    if palette is None and network.palette is not None:
        colours[: len(network.palette)] = network.palette
    names = network.class_names
    if names is None and network.num_classes == len(viz.VOC_CLASSES):
        names = viz.VOC_CLASSES
    names = names or tuple(f"class {i}" for i in range(network.num_classes))
    results.write_classes(names)

    failed = []
    with _bar(f"{network.name}, {threads} threads", len(photographs), settings.tile) as bar:
        for stem, path in photographs.items():
            try:
                with bar.image(path.name) as progress:
                    photo = read_image(path)
                    start = perf_counter()
                    labels = _labels(network, photo, settings, progress)
                    seconds = perf_counter() - start
                    viz.save_label_png(results.labels(stem), labels, colours)
                    if results.overlays:
                        viz.save_png(results.overlay(stem), viz.overlay(photo, labels, colours))
            except (ValueError, OSError, MemoryError) as error:
                if len(photographs) == 1:
                    raise
                failed.append(path)
                console.err.print(f"error: {error}", soft_wrap=True)
                continue
            size = f"{labels.shape[1]} x {labels.shape[0]}"
            if len(photographs) > 1:
                console.out.print(f"{path.name}  {size}  {seconds:.2f} s  {_found(labels, names)}")
    facts = [
        ("network", f"{network.name}, {origin}{_scales(network)}"),
        *([("tiles", f"of {settings.tile} pixels")] if settings.tile else []),
        *([("seen at", f"{settings.longest_side} pixels")] if settings.longest_side else []),
        ("CRF", settings.describe_crf()),
        ("written", f"{results.folder}, {len(photographs) - len(failed)} images"),
    ]
    if len(photographs) == 1:
        facts[:0] = [("image", size)]
        facts[-1:] = [
            ("time", f"{seconds:.2f} s on {threads} threads"),
            ("written", ", ".join(str(path) for path in _written(results, stem))),
        ]
    console.out.print(console.facts(*facts))
    if len(photographs) == 1:
        console.out.print(label_table(network.num_classes, names=names, share=labels))
    if failed:
        console.err.print(f"{len(failed)} of {len(photographs)} images failed")
        raise typer.Exit(1)


def _labels(
    network: DeepLab, photo: np.ndarray, settings: Settings, progress: TileProgress | None
) -> np.ndarray:
    """(H, W) int64."""
    prediction = predict(
        network,
        photo,
        crf=settings.crf,
        iterations=settings.iterations,
        normalization=settings.normalization,
        scale=settings.scale,
        tile=settings.tile,
        overlap=settings.overlap,
        progress=progress,
        longest_side=settings.longest_side,
    )
    return prediction.labels.cpu().numpy()


def _found(labels: np.ndarray, names: Sequence[str]) -> str:
    """The labels that cover at least 1 % of an image, the largest first."""
    shares = np.bincount(labels.ravel(), minlength=len(names)) / labels.size
    order = [i for i in np.argsort(-shares, kind="stable") if shares[i] >= 0.01]
    return ", ".join(f"{names[i]} {shares[i]:.0%}" for i in order)


def _written(results: Results, stem: str) -> list[Path]:
    overlay = [results.overlay(stem)] * results.overlays
    return [results.labels(stem), *overlay, results.folder / _CLASSES]


def _scales(network: DeepLab) -> str:
    if network.scales == (1.0,):
        return ""
    return ", at scales " + ", ".join(map(str, network.scales))


class _Bar:
    """A bar of images, or of the tiles of each; nothing where there is no terminal."""

    def __init__(self, progress: Progress, what: str, images: int, tiled: bool) -> None:
        self._progress, self._images, self._tiled = progress, images, tiled
        self._task = progress.add_task(what, total=None if images == 1 else images, unit="images")

    @contextmanager
    def image(self, name: str) -> Iterator[Callable[[int, int], None] | None]:
        if not self._tiled:
            yield None
        else:
            task = self._progress.add_task(name, total=None, unit="tiles")
            try:
                yield lambda done, total: self._progress.update(task, completed=done, total=total)
            finally:
                self._progress.remove_task(task)
        self._progress.advance(self._task)


@contextmanager
def _bar(what: str, images: int, tile: int | None) -> Iterator[_Bar]:
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console.err,
        disable=not console.err.is_terminal,
        transient=True,
    )
    with progress:
        yield _Bar(progress, what, images, tile is not None)
