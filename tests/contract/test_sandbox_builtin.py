"""The built-in data sets through the vendor's API: made when the default account asks for them, and for nobody else."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from sandbox import builtin
from sandbox.client import SandboxAccount
from sandbox.datasets import LabelledImage
from sandbox.digits import SCENE_CLASSES, digit_scenes, digits
from sandbox.server import SandboxServer
from tests.waiting import eventually

MADE: Counter[str] = Counter()
"""How often each set was made."""


def fewer(name: str, make: Callable[..., list[LabelledImage]]) -> Callable[..., list[LabelledImage]]:
    """Count and make fewer pictures than usual where no number is asked for."""

    def run(count: int = 12, **choices: Any) -> list[LabelledImage]:
        MADE[name] += 1
        return make(count, **choices)

    return run


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the sets small."""
    MADE.clear()
    for name, make in (("digits", digits), ("digits-scenes", digit_scenes)):
        monkeypatch.setitem(cast("dict[str, Any]", builtin.BUILT_IN), name, fewer(name, make))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxServer]:
    """A sandbox."""
    with SandboxServer(tmp_path) as running:
        yield running


@pytest.fixture
def default(server: SandboxServer) -> SandboxAccount:
    """The default account of a home that was made before there were digits."""
    account = server.new_account(engine="scripted")
    (server.home / builtin.DEFAULT_KEY_FILE).write_text(account.api_key)
    return account


def names(account: SandboxAccount) -> list[str]:
    """Return the names of the account's data sets."""
    with account.http() as http:
        return sorted(row["name"] for row in http.get("/datasets/").json()["data"])


@pytest.mark.parametrize("address", ["/datasets/digits", "/datasets/by-name/digits"])
def test_a_set_is_made_when_it_is_opened(default: SandboxAccount, address: str) -> None:
    """Either form of address makes it, once; listed it is from then on."""
    assert names(default) == []
    with default.http(timeout=30) as http:
        first, again = (http.get(address).json()["data"] for _ in range(2))
    assert first == again
    assert (first["name"], first["image_count"]) == ("digits", 12)
    assert (names(default), MADE) == (["digits"], {"digits": 1})


def test_an_export_of_a_set_that_was_never_opened_holds_it(default: SandboxAccount) -> None:
    """The order alone makes the set; the archive has its pictures with boxes and polygons, and held-out ones."""
    with default.http(timeout=30) as http:
        order = {"dataset_name": "digits-scenes", "name": "e", "include_images": True}
        assert http.post("/exports/", json=order).status_code == 201
        eventually(lambda: http.get("/exports/?status=completed").json()["data"])
        link = http.get("/exports/e/download?dataset=digits-scenes").json()["data"]["download_url"]
        archive = zipfile.ZipFile(io.BytesIO(http.get(link).content))
    documents = [json.loads(archive.read(name)) for name in archive.namelist() if name.startswith("annotations/")]
    assert len(documents) == sum(name.startswith("images/") for name in archive.namelist()) == 12
    shown = {label["name"] for label in json.loads(archive.read("dataset.json"))["classes"]}
    assert shown == set(SCENE_CLASSES)
    text = json.dumps(documents)
    assert all(f'"{word}"' in text for word in ("polygon", "bounding_box", "test", "val"))


def test_a_reset_account_gets_its_sets_again(default: SandboxAccount) -> None:
    """After a reset nothing is left, and whatever is asked for is made anew, road signs included."""
    with default.http(timeout=30) as http:
        http.get("/datasets/digits")
        default.reset()
        assert names(default) == []
        assert http.get("/datasets/digits").json()["data"]["image_count"] == 12
        assert http.get("/datasets/road-signs").json()["data"]["image_count"] == 200
    assert MADE == {"digits": 2}


def test_several_at_once_make_one(default: SandboxAccount) -> None:
    """Requests that come together wait for the same set."""

    def look(_: int) -> str:
        with default.http(timeout=30) as http:
            return str(http.get("/datasets/digits-scenes").json()["data"]["id"])

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(look, range(4)))) == 1
    assert MADE == {"digits-scenes": 1}


def test_data_of_one_s_own_is_never_replaced(default: SandboxAccount) -> None:
    """A set of the same name that somebody put in stands."""
    default.add_dataset("digits", count=3, size=64)
    with default.http() as http:
        assert http.get("/datasets/digits").json()["data"]["image_count"] == 3
    assert MADE == {}


def test_other_accounts_and_other_names_have_none(server: SandboxServer, default: SandboxAccount) -> None:
    """Only the default account has them, and only under their names."""
    other = server.new_account()
    with other.http() as http:
        assert http.get("/datasets/digits").status_code == 404
    with default.http() as http:
        assert http.get("/datasets/digit").status_code == 404
        assert http.post("/exports/", json={"dataset_name": "digit", "name": "e"}).status_code == 404
    assert MADE == {}


def test_without_scikit_learn_the_answer_names_the_extra(
    default: SandboxAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server serves; the set answers 409 in words a person can act on, and is not there afterwards."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with default.http() as http:
        order = {"dataset_name": "digits", "name": "e"}
        answers = [http.get("/datasets/digits"), http.post("/exports/", json=order)]
    for answer in answers:
        assert answer.status_code == 409
        assert answer.json()["error"]["code"] == "dataset_unavailable"
        assert "train-pipeline[sandbox]" in answer.json()["error"]["message"]
    assert names(default) == []


def test_any_account_can_be_given_such_sets(server: SandboxServer) -> None:
    """The control API makes every kind in number and size asked for, and says what it cannot make."""
    account = server.new_account()
    for kind in builtin.BUILT_IN:
        assert account.add_dataset(kind, kind=kind, count=5, size=32, seed=4)["image_count"] == 5
    assert names(account) == sorted(builtin.BUILT_IN)
    for wrong, words in (
        ({"kind": "digits", "count": 1798}, "1797"),
        ({"kind": "digits", "single": True}, "single is for road signs"),
        ({"kind": "letters"}, "digits-scenes"),
    ):
        with pytest.raises(RuntimeError, match=f"answered 422.*{words}"):
            account.add_dataset("x", **wrong)
