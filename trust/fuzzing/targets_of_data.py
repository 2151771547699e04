"""Readers of labels, classes, configurations, volumes, records and shards."""

from __future__ import annotations

from . import containers, seeds_of_data
from .target import Reader, Scratch, Target

_KB = 1024
_MOST_PIXELS = 1 << 12  # of what is drawn: a canvas is the size that the file says, by design
_ANNOTATIONS = ("_annotations/documents.py", "_annotations/rle.py", "_annotations/polygons.py")
_YAML_WORDS = (
    b"<<: ", b"&a ", b"*a", b"!!int ", b"!!float ", b"!!bool ", b"!!timestamp ", b"!!binary ",
    b"!!set ", b"!!omap ", b"!!python/name:os", b"extends: ", b"? ", b"options: ", b"- ",
    b"model: ", b"data: ", b"schedule: ", b"%YAML 1.1\n---\n", b"2001-99-99", b"0b_", b"0x_",
    b"|\n ", b">\n ",
)  # fmt: skip
_JSON_WORDS = (b'":', b"null", b"true", b"1e999", b"NaN", b"\\ud800", b"[[", b'{"')


def _config(scratch: Scratch) -> Reader:
    from deeplab_native.training.config_file import dump_config, load_config

    (scratch.folder / "base.yaml").write_text("schedule: {iterations: 1}\n")
    file = scratch.file("config.yaml")
    return lambda data: dump_config(load_config(file.write(data)))


def _classes(scratch: Scratch) -> Reader:
    from deeplab_native.data.classes import as_class_set

    file = scratch.file("classes.json")
    return lambda data: as_class_set(file.write(data))


def _labels(scratch: Scratch) -> Reader:
    from PIL import Image

    from deeplab_native._images import image_size, read_index_png, read_picture
    from deeplab_native._masks import read_mask
    from deeplab_native.data.label_sources import Colours
    from deeplab_native.viz import voc_palette

    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS  # the same check, sooner
    file = scratch.file("labels.png")
    colours = {"voc": voc_palette(256).astype(int)}
    readers = (
        read_index_png,
        Colours({(0, 0, 0): 0}).values,
        lambda path: read_mask(path, colours),
        lambda path: read_mask(path, colours, "probabilities"),
        read_picture,
        image_size,
    )

    def read(data: bytes) -> None:
        path, refused = file.write(data), None
        for reader in readers:
            try:
                reader(path)
            except (ValueError, OSError) as error:
                if "labels.png" not in str(error):
                    raise
                refused = error
        if refused is not None:
            raise refused

    return read


def _labelme(scratch: Scratch) -> Reader:
    from PIL import Image

    from deeplab_native._annotations import read_labelme

    Image.MAX_IMAGE_PIXELS = _MOST_PIXELS
    file = scratch.file("labelme.json")

    def read(data: bytes) -> None:
        document = read_labelme(file.write(data))
        if document.height * document.width <= _MOST_PIXELS:
            document.label_map({name: 1 for name in document.names})

    return read


def _coco(scratch: Scratch) -> Reader:
    from deeplab_native._annotations.coco import read_coco

    file = scratch.file("coco.json")

    def read(data: bytes) -> None:
        found = read_coco(file.write(data))
        for image in found.images.values():
            if image.height * image.width <= _MOST_PIXELS:
                found.label_map(image.id, dict.fromkeys(found.categories, 1))

    return read


def _record(scratch: Scratch) -> Reader:
    from deeplab_native.jobs._record import Record

    file = scratch.file("record.sqlite")

    def read(data: bytes) -> None:
        path = file.write(data)
        record = Record(path, "fuzzed", {"a": 1})
        try:
            for image in record.done():
                record.result(image, "summary")
            list(record.results())
        finally:
            record.close()

    return read


def _volume(scratch: Scratch) -> Reader:
    import nibabel  # noqa: F401  not instrumented

    from deeplab_native.jobs._nifti import read_volume

    plain, packed = scratch.file("volume.nii"), scratch.file("volume.nii.gz")

    def read(data: bytes) -> None:
        volume = read_volume((packed if data[:2] == b"\x1f\x8b" else plain).write(data))
        assert volume.values.dtype.kind in "fiub"

    return read


def _shard(scratch: Scratch) -> Reader:
    from deeplab_native.jobs.ray._inputs import Unit
    from deeplab_native.jobs.ray._samples import Columns, ShardError, samples

    file = scratch.file("shard.tar")
    unit = Unit("shard", "tar", str(file.path))

    def read(data: bytes) -> None:
        file.write(data)
        for refine in (False, True):
            try:
                list(samples(unit, Columns(), refine=refine))
            except ShardError as error:  # its callers name the shard
                raise ValueError(f"shard: {error}") from None

    return read


DATA = (
    Target(
        "config",
        "configurations of training: YAML",
        ("training/config.py", "training/config_file.py"),
        _config,
        seeds_of_data.configurations,
        max_len=192,
        memory=(4096, 1024 * _KB),
        tokens=_YAML_WORDS,
    ),
    Target(
        "classes",
        "class names: JSON",
        ("data/classes.py",),
        _classes,
        seeds_of_data.classes,
        max_len=512,
        memory=(128, 64 * _KB),
        mutator=containers.json_text,
        tokens=_JSON_WORDS,
    ),
    Target(
        "labels",
        "pictures of labels, and photographs",
        ("_images.py", "_picture_formats.py", "_masks.py", "data/label_sources.py"),
        _labels,
        seeds_of_data.label_pictures,
        max_len=1024,
        memory=(256, 1024 * _KB),
        mutator=containers.png,
        tokens=(b"IHDR", b"PLTE", b"IDAT", b"tRNS", b"eXIf", b"tEXt", b"acTL", b"fcTL", b"fdAT"),
    ),
    Target(
        "labelme",
        "LabelMe's JSON",
        (*_ANNOTATIONS, "_annotations/labelme.py"),
        _labelme,
        seeds_of_data.labelme,
        max_len=512,
        memory=(256, 256 * _KB),
        mutator=containers.json_text,
        tokens=_JSON_WORDS,
    ),
    Target(
        "coco",
        "COCO's JSON of instances, polygons and run lengths",
        (*_ANNOTATIONS, "_annotations/coco.py"),
        _coco,
        seeds_of_data.coco,
        max_len=512,
        memory=(256, 256 * _KB),
        mutator=containers.json_text,
        tokens=_JSON_WORDS,
    ),
    Target(
        "record",
        "records of jobs: SQLite",
        ("jobs/_record.py",),
        _record,
        seeds_of_data.records,
        max_len=4096,
        memory=(64, 256 * _KB),
        tokens=(b"CREATE TABLE ", b"CREATE VIEW ", b"SELECT ", b"settings", b"format"),
    ),
    Target(
        "volume",
        "volumes: NIfTI",
        ("jobs/_nifti.py",),
        _volume,
        seeds_of_data.volumes,
        max_len=1024,
        memory=(64, 512 * _KB),
    ),
    Target(
        "shard",
        "shards of the jobs on a cluster: tar",
        ("jobs/ray/_samples.py",),
        _shard,
        seeds_of_data.shards,
        max_len=8192,
        memory=(64, 256 * _KB),
        mutator=containers.tar,
    ),
)
