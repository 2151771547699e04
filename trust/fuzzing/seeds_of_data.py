"""Small whole files of labels, classes, configurations, volumes, records and shards."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import tarfile

import numpy as np
from PIL import Image


def configurations() -> list[bytes]:
    """One that says much, and what YAML has besides."""
    texts = (
        "extends: base.yaml\nnet:\n  name: deeplab_resnet101\n  options: {a: [1, x]}\n",
        "data:\n  root: voc\n  name: voc12\nschedule: {iterations: 20, lr: 1.0e-3}\n",
        "a: &x [1, *x]\nb: {<<: {c: 1}}\n",
        "- 2001-12-14\n- 0x1f\n- 1:30\n- .inf\n- ~\n- !!binary aGk=\n- !!set {a}\n- |\n  t\n",
        "? [a]\n: b\n",
        "options: {a: !!omap [b: 1], c: !!pairs [d: 2], e: !!timestamp 2001-12-14t21:59:43.1Z}\n",
    )
    return [text.encode() for text in texts]


def classes() -> list[bytes]:
    """All three forms."""
    forms = (["background", "cat"], {"0": "background", "1": "cat"}, {"background": 0, "cat": 1})
    return [json.dumps(form).encode() for form in forms]


def label_pictures() -> list[bytes]:
    """PNGs of every kind of labels, and other formats of photographs."""
    values = np.arange(16, dtype=np.uint8).reshape(4, 4) % 3
    palette = Image.fromarray(values)
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    grey, wide = Image.fromarray(values), Image.fromarray(values.astype(np.uint16) * 999)
    pictures = [palette, grey, wide, grey.convert("1"), palette.convert("RGB"), grey.convert("LA")]
    files = [_saved(picture, "PNG") for picture in pictures]
    exif = Image.Exif()
    exif[0x0112] = 6
    files.append(_saved(grey, "PNG", exif=exif, transparency=1))
    files.append(_saved(palette, "PNG", save_all=True, append_images=[palette]))
    colours = palette.convert("RGB").resize((8, 8))
    files += [_saved(colours, kind) for kind in ("BMP", "GIF", "TIFF", "PPM")]
    return [*files, _saved(colours, "JPEG", quality=10, exif=exif)]


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)  # type: ignore[arg-type]
    return file.getvalue()


def labelme() -> list[bytes]:
    """Every kind of shape."""
    corners = [[0, 0], [3, 0], [3, 3], [0, 3]]
    points = {
        "polygon": corners[:3],
        "rectangle": corners[:2],
        "oriented_rectangle": corners,
        "circle": corners[:2],
        "line": corners[:2],
        "linestrip": corners[:3],
        "point": corners[:1],
    }
    shapes = [{"label": "a", "shape_type": kind, "points": p} for kind, p in points.items()]
    drawn = _base64(_saved(Image.new("1", (2, 2), 1), "PNG"))
    shapes.append({"label": "b", "shape_type": "mask", "points": corners[:2], "mask": drawn})
    size = {"imageHeight": 4, "imageWidth": 5}
    files = [{"shapes": [shape], **size} for shape in shapes]
    files.append({"shapes": [], "imageData": _base64(_saved(Image.new("L", (3, 2)), "PNG"))})
    files.append({"shapes": [], "imagePath": "labelme.json"})
    return [json.dumps(file).encode() for file in files]


def _base64(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode()


def coco() -> list[bytes]:
    """Polygons and run lengths of both kinds."""
    rle = {"size": [4, 5], "counts": [3, 2, 15]}
    packed = {"size": [4, 5], "counts": "32?"}
    segmentations = ([[0, 0, 3, 0, 3, 3]], rle, packed)
    common = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 4, "width": 5}],
        "categories": [{"id": 1, "name": "a"}],
    }
    return [
        json.dumps(
            common
            | {"annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": s}]}
        ).encode()
        for s in segmentations
    ]


def records() -> list[bytes]:
    """A record of the job of `targets`."""
    database = sqlite3.connect(":memory:")
    # the smallest pages that SQLite has: five of them
    database.execute("PRAGMA page_size = 512")
    database.execute("CREATE TABLE about (what TEXT PRIMARY KEY, value TEXT NOT NULL)")
    database.execute("CREATE TABLE images (image TEXT PRIMARY KEY, files TEXT NOT NULL)")
    database.execute(
        "CREATE TABLE counts (image TEXT, variant TEXT, packed BLOB NOT NULL, "
        "PRIMARY KEY (image, variant))"
    )
    about = [("format", "deeplab_native fuzzed 1"), ("settings", '{"a": 1}')]
    database.executemany("INSERT INTO about VALUES (?, ?)", about)
    database.execute("INSERT INTO images VALUES ('a', '[]')")
    database.execute("INSERT INTO counts VALUES ('a', 'summary', x'7b7d')")
    database.commit()
    return [database.serialize()]


def volumes() -> list[bytes]:
    """NIfTI of both versions, plain and packed."""
    import nibabel

    files = []
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        for values in (np.arange(8, dtype=np.float32), np.arange(8, dtype=np.uint8)):
            files.append(kind(values.reshape(2, 2, 2), np.eye(4)).to_bytes())
    return [*files, gzip.compress(files[0], mtime=0)]


def shards() -> list[bytes]:
    """Tar archives: two samples, one of them with two members."""
    files = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            long = "" if form == tarfile.USTAR_FORMAT else "l" * 101 + "/"
            for name in ("a.png", f"{long}b.jpg", f"{long}b.npy"):
                info = tarfile.TarInfo(name)
                info.size = 4
                tar.addfile(info, io.BytesIO(b"data"))
        files.append(out.getvalue()[: 512 * 14])
    return files
