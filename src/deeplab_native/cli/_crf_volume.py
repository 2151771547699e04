"""`deeplab-native crf` on a volume: NIfTI in, NIfTI out."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from . import options
from .option_groups import CRFOptions, RunOptions, ScoreOptions


def is_asked_for(image: Path, scores: Path) -> bool:
    """Whether volumes are given; ValueError for folders of them, and for volumes with pictures."""
    from ..jobs._nifti import is_volume

    if image.is_dir():
        volumes = [path.name for path in sorted(image.iterdir()) if is_volume(path)]
        if volumes:
            raise ValueError(
                f"{image} has {len(volumes)} volumes, as {volumes[0]} (give them one at a time)"
            )
        return False
    if is_volume(scores) and not is_volume(image):
        raise ValueError(f"{scores} is of a volume, {image} is none (give its .nii or .nii.gz)")
    return is_volume(image)


def run(
    image: Path,
    scores: Path,
    output: Path | None,
    probabilities: Path | None,
    window: tuple[float, float] | None,
    confidence: float,
    lattice: str,
    reading: ScoreOptions,
    crf: CRFOptions,
    running: RunOptions,
) -> None:
    """One volume from files to a file."""
    from ..jobs import _nifti, volumes
    from ..jobs.settings import check_device
    from . import console, report

    chosen = replace(crf.settings(volumes.PARAMS).exact(), lattice=lattice)
    settings = volumes.VolumeSettings(chosen, reading.format(), window, confidence)
    output = output or Path(f"{_nifti.stem_of(image)}_crf.nii.gz")
    if not _nifti.is_volume(output):
        raise ValueError(f"--output {output}: expected a name that ends in .nii or .nii.gz")
    if probabilities is not None:
        options.check_suffix("--save-probabilities", probabilities, ".npz")
    written = [path for path in (output, probabilities) if path is not None]
    options.check_outputs(written, inputs=[image, scores])
    _nifti.check_nibabel()
    check_device(running.device)
    threads = options.use_threads(running.threads)
    loaded = volumes.load(image, scores, settings)
    with console.status(f"Dense CRF, {settings.crf.iterations} iterations, {threads} threads"):
        refined = volumes.refine(loaded, settings, running.device)
    with console.status("Writing"):
        volumes.write(output, probabilities, loaded, refined)
    size, spacing = refined.after.shape, loaded.volume.spacing
    maps = {"before": refined.before, "after": refined.after}
    shares = {
        name: report.shares_of(labels.reshape(len(labels), -1)) for name, labels in maps.items()
    }
    how = "as given" if window else "0.5 and 99.5 % of the voxels"
    windows = ", ".join(f"{low:g} to {high:g}" for low, high in loaded.windows)
    recognised = reading.kind == "auto"
    crf_record = settings.crf.as_record()
    values = {
        "size": size, "spacing_mm": spacing, "window": loaded.windows, "threads": threads,
        "labels": len(loaded.labels), "kind": loaded.kind, "recognised": recognised,
        "notes": loaded.volume.notes, "seconds": refined.seconds, "changed": refined.changed,
        "shares": shares, "written": written, **crf_record.pop("params"), **crf_record,
        **{k: v for k, v in asdict(settings.scores).items() if k != "kind"},
        "confidence": confidence,
    }  # fmt: skip
    facts = console.facts(
        ("volume", " x ".join(map(str, size)) + " voxels of " + _millimetres(spacing)),
        ("values", f"{windows} taken for 0 to 255 ({how})"),
        (
            "scores",
            f"{len(loaded.labels)} labels, {loaded.kind} "
            f"({'recognised' if recognised else 'as given'})",
        ),
        ("CRF", f"{report.describe_crf(settings.crf)}; σα and σγ in mm"),
        ("time", f"{refined.seconds * 1e3:.0f} ms on {threads} threads"),
        ("changed", report.part(refined.changed, refined.after.size, "voxels")),
        ("written", ", ".join(map(str, written))),
    )
    console.result(running.json, values, facts, report.label_table(shares, None))
    report.print_notes({note: [image.name] for note in loaded.volume.notes})


def _millimetres(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{step:.4g}" for step in spacing) + " mm"
