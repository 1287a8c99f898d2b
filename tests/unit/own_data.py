"""A person's own data, written the way their tools write it."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sandbox.datasets import DataError
from sandbox.layouts.reading import ReadData, read_data


def encoded(image: Image.Image, kind: str = "PNG", **save: Any) -> bytes:
    """Return an image's file."""
    stream = io.BytesIO()
    image.save(stream, kind, **save)
    return stream.getvalue()


def picture(width: int = 20, height: int = 10, kind: str = "PNG", **save: Any) -> bytes:
    """Return an image file of one colour."""
    return encoded(Image.new("RGB", (width, height), (200, 30, 30)), kind, **save)


def grey(rows: Any, kind: str = "PNG") -> bytes:
    """Return a file of 8-bit grey values (H, W)."""
    return encoded(Image.fromarray(np.array(rows, np.uint8)), kind)


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    """Write files by their path below a folder and return the folder."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def zipped(path: Path, root: Path, below: str = "") -> Path:
    """Pack a folder, as it is or below a folder of the ZIP."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(root.rglob("*")):
            archive.write(file, below + file.relative_to(root).as_posix())
    return path


def refusal(source: Path) -> str:
    """Return what is said about data that cannot be used."""
    with pytest.raises(DataError) as caught:
        read_data(source)
    return str(caught.value)


def labels(read: ReadData) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Return the names and boxes of the shapes, by image."""
    return {image.name: [(shape.name, shape.box) for shape in image.shapes] for image in read.images}
