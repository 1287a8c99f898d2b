"""Trainings at a budget of seconds, measured by the code that makes the published table, shared by several files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.training import FLOORS, Budget, Figures, measure, pictures
from sandbox.datasets import LabelledImage

HEIGHT, WIDTH = 64, 96
"""Of the networks' input: pictures are square, so both directions are scaled differently."""
TESTED = 12
REDUCED = Budget(
    (("train", 48), ("val", 4), ("test", TESTED)),
    side=96,
    single=True,
    config={"epochs": 25, "batch_size": 8, "image_height": HEIGHT, "image_width": WIDTH},
)
SEED = 0
_AT_ONCE = 2


@dataclass(frozen=True)
class Reduced:
    """A finished training: its job folder, what was measured, and the pictures it never saw."""

    folder: Path
    figures: Figures
    held_out: tuple[LabelledImage, ...]


@pytest.fixture(scope="session")
def reduced(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Reduced]]:
    """Train each pipeline once, those that the chosen tests ask for, two at a time: half of it is starting."""
    asking = [item for item in request.session.items if "reduced" in getattr(item, "fixturenames", ())]
    wanted = {item.callspec.params.get("kind") for item in asking if hasattr(item, "callspec")}

    def train(kind: str) -> Reduced:
        folder = tmp_path_factory.mktemp(f"reduced-{kind}")
        figures = measure(kind, SEED, folder, REDUCED)
        return Reduced(folder, figures, tuple(pictures(kind, SEED, REDUCED)[-TESTED:]))

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs: dict[str, Future[Reduced]] = {kind: pool.submit(train, kind) for kind in FLOORS if kind in wanted}

        def finished(kind: str) -> Reduced:
            if kind not in jobs:
                jobs[kind] = pool.submit(train, kind)
            return jobs[kind].result()

        yield finished
        for job in jobs.values():
            job.cancel()
