"""`deeplab-native evaluate`: mean IoU and trimaps of weights or of scores, with and without CRF."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from .evaluate_image import Net, ScoreMaps

# The names of `data.DATASETS`, which is too slow for --help
DATASETS = ("voc", "pascal-context", "pascal-person-part", "cityscapes", "camvid", "folder")

EXAMPLES = """[bold]Examples[/]

[cyan]deeplab-native evaluate voc VOCdevkit --weights net.safetensors --out results/[/]

[cyan]deeplab-native evaluate voc VOCdevkit --weights net.safetensors --multi-scale --out both/[/]

[cyan]deeplab-native evaluate folder shapes/ --scores logits/ --w1 10 --out results/[/]

The same command again goes on where it was interrupted; images whose files have changed are counted
anew. OUT gets evaluation.json, classes.csv,
trimap.csv, evaluation.png, and counts.sqlite, the counts of every image."""

_FOLDER = "Data set folder"
_SCORES = "Scores"


def run(
    dataset: Annotated[
        str, typer.Argument(metavar="DATASET", help=f"One of {', '.join(DATASETS)}.")
    ],
    root: Annotated[Path, typer.Argument(help="Its folder, in the set's own layout.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the results.")],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A net: .safetensors written by us.")
    ] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Instead of a net: .npy or .npz score maps named like the images, as "
            "[cyan]deeplab-native crf[/] reads them.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Default: val; of [cyan]folder[/] all, or the ids in ROOT/SPLIT.txt."),
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Only these images of the split, one id a line."),
    ] = None,
    mean_over: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Classes of the means, by commas. Default: all."),
    ] = None,
    single_scale: Annotated[
        bool, typer.Option("--single-scale/--no-single-scale", help="Images at their own size.")
    ] = True,
    multi_scale: Annotated[
        bool,
        typer.Option("--multi-scale", help="Also at 1, 0.75 and 0.5, fused (the paper's MSC)."),
    ] = False,
    trimap: Annotated[
        str,
        typer.Option(
            help="void (the paper's bands around the void outlines of VOC), boundary (around "
            "changes of the label), none, or auto: what the data set has."
        ),
    ] = "auto",
    images: Annotated[
        str, typer.Option(help="Folder of photographs in ROOT.", rich_help_panel=_FOLDER)
    ] = "images",
    labels: Annotated[
        str, typer.Option(help="Folder of label PNGs in ROOT.", rich_help_panel=_FOLDER)
    ] = "labels",
    classes: Annotated[
        str | None,
        typer.Option(
            help="Their number, a .json of names by index, or another data set's name. "
            "Default: ROOT/classes.json.",
            rich_help_panel=_FOLDER,
        ),
    ] = None,
    label_map: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="What every value of the label PNGs means: a class, or 255 for void.",
            rich_help_panel=_FOLDER,
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="logits, probabilities or auto.", rich_help_panel=_SCORES)
    ] = "auto",
    layout: Annotated[
        str, typer.Option(help="chw, hwc or auto.", rich_help_panel=_SCORES)
    ] = "auto",
    key: Annotated[
        str | None, typer.Option(help="Array of the .npz files.", rich_help_panel=_SCORES)
    ] = None,
    resize: Annotated[
        bool,
        typer.Option("--resize", help="Scale smaller scores up.", rich_help_panel=_SCORES),
    ] = False,
    crf: Annotated[
        bool,
        typer.Option(
            "--crf/--no-crf",
            help="Also with the CRF, beside without: with the parameters in the weights, or "
            "voc-resnet101, unless others are given.",
        ),
    ] = True,
    preset: options.Preset = None,
    w1: options.W1 = None,
    sigma_alpha: options.SigmaAlpha = None,
    sigma_beta: options.SigmaBeta = None,
    w2: options.W2 = None,
    sigma_gamma: options.SigmaGamma = None,
    iterations: options.Iterations = 10,
    normalization: options.Normalization = "symmetric",
    scale: options.Scale = 1.0,
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            help="Leave out images that cannot be read, named and counted. Without it they are "
            "an error once all others are counted.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes, each with --threads threads and the net in memory. Default: one for "
            "each core; on a GPU one.",
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a process.")] = 1,
    device: Annotated[str, typer.Option(help="Of the net: cpu, cuda, cuda:1, ...")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Count all images anew.")] = False,
) -> None:
    """Evaluate weights or score maps on a data set, before and after the CRF."""
    if (weights is None) == (scores is None):
        raise ValueError("--weights or --scores: expected one of them (give a net or score maps)")
    cores = len(os.sched_getaffinity(0))
    workers = workers or (cores if device == "cpu" else 1)
    for option, count in (("--workers", workers), ("--threads", threads)):
        options.check_count(option, count)

    from . import evaluate_run
    from .evaluate_image import CRF, Net, ScoreMaps, Settings, check_weights
    from .evaluate_options import (
        around_what,
        check_device,
        check_out,
        check_scores,
        class_indices,
        open_data,
    )

    given_params = {
        "w1": w1,
        "sigma_alpha": sigma_alpha,
        "sigma_beta": sigma_beta,
        "w2": w2,
        "sigma_gamma": sigma_gamma,
    }
    chosen = None
    if crf:
        chosen = CRF(options.crf_params(preset, **given_params), iterations, normalization, scale)
    source: Net | ScoreMaps
    if weights is not None:
        if not (single_scale or multi_scale):
            raise ValueError("--no-single-scale: nothing is left (add --multi-scale)")
        given = {
            "--kind": kind != "auto",
            "--layout": layout != "auto",
            "--key": key,
            "--resize": resize,
        }
        for option in (name for name, value in given.items() if value):
            raise ValueError(f"{option} is for score maps, not for a net (give --scores)")
        check_device(device)
        source = Net(weights.resolve(), single_scale, multi_scale, device)
    else:
        assert scores is not None
        if multi_scale or not single_scale:
            raise ValueError("--multi-scale and --no-single-scale are for a net (give --weights)")
        source = ScoreMaps(scores.resolve(), kind, layout, key, resize)
    of_folder = {"images": images, "labels": labels, "classes": classes, "label_map": label_map}
    opened = open_data(dataset, root, split, ids, of_folder)
    around, widths = around_what(trimap, opened)
    over = class_indices(mean_over, opened.classes)
    check_out(out, [root, *([scores] if scores else [])])
    if isinstance(source, Net):
        found = check_weights(source, len(opened.classes)).crf
        if chosen and preset is None and found is not None:
            chosen = replace(chosen, params=options.crf_params(found, **given_params))
    else:
        check_scores(source, opened)
    evaluate_run.run(
        evaluate_run.Plan(
            dataset=opened,
            root=root,
            settings=Settings(source, chosen, around, widths),
            out=out,
            workers=workers,
            threads=threads,
            overwrite=overwrite,
            skip_bad=skip_bad,
            mean_over=over,
        )
    )
