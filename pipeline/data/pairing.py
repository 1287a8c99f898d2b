"""Which picture of an archive a file of labels belongs to.

Two folders may hold pictures of the same name (``train/001.jpg``, ``val/001.jpg``), and labels on the wrong picture
would condemn a good model. So the longest common end of the two paths decides, and where several pictures share it,
none does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline.models import LabelledBox

# Folders that say what kind of file lies in them, not which picture it is about.
_KINDS = frozenset({"images", "annotations"})
_DEEPEST = 16
"""Path parts that are compared; a hostile path has tens of thousands."""

Parts = tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """One picture's labels as the archive gives them."""

    source: str
    """The annotation file's path in the archive."""
    file_name: str
    """The picture's name or path as the annotation gives it."""
    split: str | None = None
    boxes: tuple[LabelledBox, ...] = ()
    tags: tuple[str, ...] = ()
    picture: str | None = None
    """The picture's path in the archive; none where it is missing or cannot be told."""


@dataclass(frozen=True)
class Paired:
    """Labels with their pictures, and the annotation files whose picture cannot be told."""

    labels: tuple[Label, ...]
    ambiguous: tuple[str, ...]


def base_name(path: str) -> str:
    """Return a path's last part, whichever way its slashes lean."""
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def pair_labels(labels: Sequence[Label], pictures: Iterable[str]) -> Paired:
    """Give each label the picture whose path shares the longest end with its own."""
    ends = _index(pictures)
    claims: dict[str, list[tuple[int, int]]] = defaultdict(list)
    unclear: set[int] = set()
    for number, label in enumerate(labels):
        length, picture = _longest(ends, _label_parts(label))
        if picture is not None:
            claims[picture].append((length, number))
        elif length:
            unclear.add(number)
    chosen: dict[int, str] = {}
    for picture, claimants in claims.items():
        longest = max(length for length, _ in claimants)
        best = [number for length, number in claimants if length == longest]
        if len(best) == 1:
            chosen[best[0]] = picture
        else:
            unclear.update(best)
    return Paired(
        labels=tuple(replace(label, picture=chosen.get(number)) for number, label in enumerate(labels)),
        ambiguous=tuple(labels[number].source for number in sorted(unclear)),
    )


def _index(pictures: Iterable[str]) -> dict[Parts, str | None]:
    """Return the picture of every path end; none where several have it."""
    ends: dict[Parts, str | None] = {}
    for path in pictures:
        parts = _parts(path)
        for start in range(len(parts)):
            end = parts[start:]
            ends[end] = None if end in ends else path
    return ends


def _longest(ends: dict[Parts, str | None], parts: Parts) -> tuple[int, str | None]:
    """Return how many parts the best match shares (0: there is none) and the picture, if it is only one."""
    for start in range(len(parts)):
        if parts[start:] in ends:
            return len(parts) - start, ends[parts[start:]]
    return 0, None


def _parts(path: str) -> Parts:
    """Return a path's telling parts; the empty one in front stands for the root, so that a whole path fits best."""
    steps = [step for step in path.replace("\\", "/").split("/") if step not in {"", ".", ".."}]
    return ("", *(step for step in steps[:-1] if step not in _KINDS), *steps[-1:])[-_DEEPEST:]


def _label_parts(label: Label) -> Parts:
    """Return the path the picture would have beside its annotation file, folders of both written once."""
    beside, own = _parts(label.source)[:-1], _parts(label.file_name)[1:]
    overlap = next(size for size in range(len(own[:-1]), -1, -1) if beside[len(beside) - size :] == own[:size])
    return (*beside, *own[overlap:])
