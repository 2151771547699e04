"""Options that choose a data set and its images."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..data import SegmentationDataset

_FOLDER = "Data set folder"


@dataclass(frozen=True)
class DatasetOptions:
    """Which images of a data set, and where those of a folder are."""

    split: Annotated[
        str | None,
        typer.Option(help="Default: val; of [cyan]folder[/] all, or the ids in ROOT/SPLIT.txt."),
    ] = None
    ids: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only these images of the split, one id a line."),
    ] = None
    images: Annotated[
        str, typer.Option(help="Folder of photographs in ROOT.", rich_help_panel=_FOLDER)
    ] = "images"
    labels: Annotated[
        str, typer.Option(help="Folder of label PNGs in ROOT.", rich_help_panel=_FOLDER)
    ] = "labels"
    classes: Annotated[
        str | None,
        typer.Option(
            help="Their number, a .json of names by index, or another data set's name. "
            "Default: ROOT/classes.json.",
            rich_help_panel=_FOLDER,
        ),
    ] = None
    label_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="What every value of the label PNGs means: a class, or 255 for void.",
            rich_help_panel=_FOLDER,
        ),
    ] = None

    def open(self, name: str, root: Path) -> SegmentationDataset:
        """Raises what `open_dataset` does, and ValueError for options of another data set."""
        from ..data import open_dataset, read_ids

        own = ("images", "labels", "classes", "label_map")
        keywords: dict[str, Any] = {}
        if name != "folder":
            default = DatasetOptions()
            given = [o for o in own if getattr(self, o) != getattr(default, o)]
            if given:
                option = given[0].replace("_", "-")
                raise ValueError(
                    f"--{option} is for the data set 'folder', not {name!r} (leave it out)"
                )
        else:
            keywords = {f.name: getattr(self, f.name) for f in fields(self) if f.name in own}
            if self.label_map is not None:
                keywords["label_map"] = _read_label_map(self.label_map)
        dataset = open_dataset(name, root, self.split, **keywords)
        return dataset if self.ids is None else dataset.subset(read_ids(self.ids))


def _read_label_map(path: Path) -> dict[int, int]:
    from ..data.classes import read_json_object

    try:
        found = {int(value): label for value, label in read_json_object(path).items()}
        pairs = {value: label for value, label in found.items() if type(label) is int}
        if len(pairs) < len(found):
            raise ValueError
        return pairs
    except ValueError as error:
        if str(path) in str(error):  # of the file itself
            raise
        raise ValueError(
            f'{path}: expected the label of every value, as {{"0": 0, "8": 1, "255": 255}}'
        ) from None
