"""Small data sets of drawn shapes in the standard folder layouts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from deeplab_native import viz

HEIGHT, WIDTH = 24, 30
VOID = 255


def draw(number: int, classes: Iterable[int], void: int | None = VOID) -> tuple[np.ndarray, ...]:
    """A photograph (H, W, 3) uint8 and its labels (H, W) uint8: rectangles, outlined by void.

    Every image has its own height. Each class has its own colour in the photograph.
    """
    random = np.random.default_rng(number)
    classes = list(classes)
    labels = np.full((HEIGHT + number, WIDTH), classes[0], np.uint8)
    for label in classes[1:]:
        top, left = random.integers(0, HEIGHT - 8), random.integers(0, WIDTH - 8)
        if void is not None:
            labels[top : top + 8, left : left + 8] = void
        labels[top + 1 : top + 7, left + 1 : left + 7] = label
    photo = viz.voc_palette()[labels] // 2 + random.integers(0, 40, (*labels.shape, 3))
    return photo.astype(np.uint8), labels


def save(path: Path, pixels: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if palette:
        viz.save_label_png(path, pixels)
    else:
        options = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
        Image.fromarray(pixels).save(path, **options)


def save_list(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def folder(root: Path, names: Iterable[str] = "abcd", classes: Iterable[int] = range(4)) -> None:
    """images/*.png, labels/*.png and classes.json."""
    classes = list(classes)
    for number, name in enumerate(names):
        photo, labels = draw(number, classes)
        save(root / f"images/{name}.png", photo)
        save(root / f"labels/{name}.png", labels, palette=bool(number % 2))
    text = ", ".join(f'"{i}": "shape {i}"' for i in range(len(classes)))
    (root / "classes.json").write_text(f"{{{text}}}")


def voc_sample(
    root: Path,
    name: str,
    number: int,
    labels: str = "SegmentationClass",
    classes: Iterable[int] = range(0, 21, 4),
) -> tuple[np.ndarray, ...]:
    """The files of one sample in a VOC layout; the photograph and its labels."""
    photo, truth = draw(number, classes)
    save(root / f"JPEGImages/{name}.jpg", photo)
    save(root / f"{labels}/{name}.png", truth, palette=labels == "SegmentationClass")
    return photo, truth


def voc_folders(root: Path) -> tuple[Path, dict[str, tuple[np.ndarray, ...]]]:
    """VOCdevkit/VOC2012: train = a b, val = c, augmented labels of d too; and the samples."""
    folder = root / "VOCdevkit/VOC2012"
    samples = {name: voc_sample(folder, name, i) for i, name in enumerate("abc")}
    for number, name in enumerate("abcd"):
        samples[name] = voc_sample(folder, name, number, "SegmentationClassAug")
    for split, names in {"train": "ab", "val": "c", "trainval": "abc"}.items():
        save_list(folder / f"ImageSets/Segmentation/{split}.txt", names)
    return root, samples
