"""Killed at each durable step in turn, a command at Replicate, Bluesight or PhotoGPT keeps what its provider promises.

Replicate and PhotoGPT: one training, whatever was lost. Bluesight, which cannot be asked whether a job was made: none
too many, and a person decides where nobody else can. Real processes, SIGKILL, HTTP and SQLite, as in ``test_deaths``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest

from sandbox.server import SandboxServer
from tests.fault.forks import ended_in_any_case
from tests.fault.scenes import LOST, Left
from tests.fault.vendors import (
    BLUESIGHT,
    PHOTOGPT,
    PICTURES,
    REPLICATE,
    Fields,
    Vendor,
    VendorScene,
    open_vendor_scene,
    shows,
)

AT_ONCE = 6
"""Chains under way at the same time."""
NOTHING = Left(None, 0)
INTENT = Left("intent", 0)
SENT = Left("intent", 1)
CREATED = Left("created", 1)
ENDED = Left("terminal", 1)


@dataclass(frozen=True)
class Death:
    """Where a process dies, and what the journal and the bill say afterwards."""

    at: str
    left: Left
    rule: dict[str, Any] = field(default_factory=dict)
    """Which of the requests, and whether it has its effect."""


def collects(scene: VendorScene, *arguments: str, outcome: str = "accepted") -> str:
    """Give the command once more, which comes to this end, and return what it said."""
    with ended_in_any_case(scene.start(*arguments)) as last:
        assert last.wait() == 0, last.said
    assert last.result["outcome"] == outcome
    return last.said


def stops(scene: VendorScene, *, jobs: int) -> None:
    """Give the command once more, which cannot know whether a job was made: it sends nothing and says what to do."""
    with ended_in_any_case(scene.start()) as again:
        assert again.wait() == 1, again.said
    assert shows(again.result["message"], "--adopt ID", "on_unknown_create=repeat"), again.said
    (report,) = scene.reports()
    assert report.outcome_unknown
    assert (scene.left().runs, scene.count("create"), scene.count("upload")) == (jobs, 1, 1)


def nothing_is_uploaded_twice(scene: VendorScene) -> None:
    """Three uploads, of which the first two were never noted: the third is trained on by whoever comes back."""
    collects(scene)
    scene.assert_closed()
    assert (scene.count("upload"), scene.count("create")) == (3, 1)


def a_job_that_was_never_made_is_made_on_request(scene: VendorScene) -> None:
    """Nobody can know that there is none: stopped, and made by ``repeat``, which warns of one that may be there."""
    stops(scene, jobs=0)
    said = collects(scene, "--on-unknown-create", "repeat")
    assert shows(said, "possible orphans"), said
    scene.assert_closed()
    assert scene.count("upload") == 1


def a_second_job_is_made_on_request_alone(scene: VendorScene) -> None:
    """Stopped with one job; ``repeat`` makes another one, two at most, and warns of the first."""
    stops(scene, jobs=1)
    said = collects(scene, "--on-unknown-create", "repeat")
    assert shows(said, "possible orphans"), said
    assert (scene.account.bill()["started_runs"], scene.count("upload")) == (2, 1)
    (row,) = scene.operations()
    assert (row["state"], row["outcome"]) == ("collected", "accepted")


def a_job_that_a_person_found_is_adopted(scene: VendorScene) -> None:
    """Stopped with one job, which a person finds there and names: collected, and no other one made."""
    stops(scene, jobs=1)
    (job,) = scene.account.bill()["runs"]
    collects(scene, "--adopt", job["id"])
    scene.assert_closed()


def one_model_of_twelve_pictures(scene: VendorScene) -> None:
    """One model, each picture in it once, and a trigger for each death that may have lost one."""
    collects(scene, outcome="untried")
    scene.assert_closed(outcome="untried")
    assert [scene.count(what) for what in ("model", "upload", "create")] == [1, PICTURES, 2]


def one_training_and_one_picture(scene: VendorScene) -> None:
    """One trigger and one picture on the bill, whichever answers were lost."""
    collects(scene)
    scene.assert_closed()
    assert [scene.count(what) for what in ("upload", "create", "try")] == [PICTURES, 1, 1]
    assert scene.account.bill()["net"] == 500 + 10


def one_training_of_one_upload(scene: VendorScene) -> None:
    """One create, one upload, one model of the account's."""
    collects(scene)
    scene.assert_closed()
    assert [scene.count(what) for what in ("model", "upload", "create")] == [1, 1, 1]
    assert len(scene.models()) == 1


def one_training_though_the_first_create_never_arrived(scene: VendorScene) -> None:
    """The third upload is the one whose address finds the run; the create that never arrived is sent once more."""
    collects(scene)
    scene.assert_closed()
    assert [scene.count(what) for what in ("model", "upload", "create")] == [1, 3, 2]


@dataclass(frozen=True)
class Chain:
    """Deaths of one command after the other, each further than the one before, and what comes of it in the end."""

    name: str
    vendor: Vendor
    deaths: tuple[Death, ...]
    comes_to: Callable[[VendorScene], None]
    fields: Fields = field(default_factory=dict)

    def __str__(self) -> str:
        """Return its name."""
        return f"{self.vendor}-{self.name}"


PREPARING = (
    Death("greet", NOTHING),
    Death("upload", NOTHING, LOST),
    Death("note", NOTHING),
    Death("intent", NOTHING),
)
CHAINS = (
    Chain(
        "each-step",
        BLUESIGHT,
        (
            *PREPARING,
            Death("look", CREATED, {"skip": 1}),
            Death("try", ENDED),
            Death("verdict", ENDED),
        ),
        nothing_is_uploaded_twice,
    ),
    Chain("never-arrived", BLUESIGHT, (Death("create", INTENT),), a_job_that_was_never_made_is_made_on_request),
    Chain("answer-lost", BLUESIGHT, (Death("create", SENT, LOST),), a_second_job_is_made_on_request_alone),
    Chain("handle-lost", BLUESIGHT, (Death("handle", SENT),), a_job_that_a_person_found_is_adopted),
    Chain(
        "preparing",
        PHOTOGPT,
        (
            Death("greet", NOTHING),
            Death("model", NOTHING, LOST),
            Death("upload", NOTHING, {"skip": 4, **LOST}),
            Death("intent", NOTHING),
            Death("create", INTENT),
            Death("verdict", ENDED),
        ),
        one_model_of_twelve_pictures,
    ),
    Chain(
        "paid",
        PHOTOGPT,
        (
            Death("create", SENT, LOST),
            Death("handle", SENT),
            Death("look", CREATED, {"skip": 1}),
            Death("try", ENDED, LOST),
            Death("charge", ENDED),
        ),
        one_training_and_one_picture,
        {"smoke": True},
    ),
    Chain(
        "preparing",
        REPLICATE,
        (*PREPARING[:1], Death("model", NOTHING, LOST), *PREPARING[1:], Death("create", INTENT)),
        one_training_though_the_first_create_never_arrived,
    ),
    Chain(
        "paid",
        REPLICATE,
        (
            Death("create", SENT, LOST),
            Death("handle", SENT),
            Death("look", CREATED),
            Death("bytes", ENDED, {"after_bytes": 1000}),
            Death("smoke", ENDED),
            Death("verdict", ENDED),
        ),
        one_training_of_one_upload,
    ),
)


def play(chain: Chain, scene: VendorScene) -> None:
    """Kill the command at each step in turn, and see what the last one comes to."""
    for death in chain.deaths:
        scene.die(death.at, **death.rule)
        assert scene.left() == death.left, death
    chain.comes_to(scene)


@pytest.fixture(scope="module")
def played(
    sandbox: SandboxServer,
    prefect_server: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[dict[str, Future[None]]]:
    """The chains that are asked for, the longest first and some at a time: a process mostly waits."""
    wanted = {item.name.partition("[")[2].rstrip("]") for item in request.session.items}
    folder = tmp_path_factory.mktemp("chains")

    def one(chain: Chain) -> None:
        play(chain, open_vendor_scene(chain.vendor, sandbox, prefect_server, folder / str(chain), chain.fields))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        chains = sorted(CHAINS, key=lambda chain: len(chain.deaths), reverse=True)
        yield {str(chain): pool.submit(one, chain) for chain in chains if str(chain) in wanted}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_a_command_keeps_what_its_provider_promises(played: dict[str, Future[None]], chain: Chain) -> None:
    """Killed, given again, killed a step further: nothing is paid for or uploaded twice that is known of."""
    played[str(chain)].result()
