"""Shared by several files: trainings at a budget of seconds, and databases for the journal, SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.training import FLOORS, Budget, Figures, measure, pictures
from pipeline.journal.store import Journal
from sandbox.datasets import LabelledImage
from sandbox.server import SandboxServer
from tests.contract.adapters import Bench, opened
from tests.contract.pictograph_accounts import DATASET, Account, NewAccount
from tests.contract.vendors import VENDORS
from tests.databases import Postgres, running_postgres
from tests.intents import NOON_S

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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests that ask."""
    with running_postgres() as served:
        yield served


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty journal can be made."""
    if request.param == "sqlite":
        return str(tmp_path / "made" / "journal.db")
    served: Postgres = request.getfixturevalue("postgres")
    return served.empty()


class Hands:
    """A clock's hands, which stand still until they are moved."""

    def __init__(self, now_s: float = NOON_S) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Return the time they show."""
        return self.now_s


@pytest.fixture
def hands() -> Hands:
    """The journal's clock; it shows noon of the first day of a month."""
    return Hands()


@pytest.fixture
def open_journal(location: str, hands: Hands) -> Iterator[Callable[[], Journal]]:
    """Open the journal, as another process would."""
    opened: list[Journal] = []

    def again() -> Journal:
        opened.append(Journal(location, now=hands))
        return opened[-1]

    yield again
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[[], Journal]) -> Journal:
    """An empty journal."""
    return open_journal()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """One sandbox for this file; accounts keep the tests apart."""
    with SandboxServer(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def new_account(server: SandboxServer) -> Iterator[NewAccount]:
    """Give a function that opens an account with the data set."""
    opened: list[Account] = []

    def make(**settings: Any) -> Account:
        account = Account(server, settings)
        account.control.add_dataset(DATASET, count=8)
        opened.append(account)
        return account

    yield make
    for account in opened:
        account.close()


@pytest.fixture(params=VENDORS)
def bench(request: pytest.FixtureRequest, server: SandboxServer, tmp_path: Path) -> Iterator[Bench]:
    """An account and adapters of each vendor in turn."""
    with opened(server, request.param, tmp_path) as made:
        yield made
