"""A sandbox's home folder: who may read it, which version wrote it, and what is cleared out of it."""

import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from sandbox import server
from sandbox.accounts import Account, AccountConflictError, create_account, find_by_key, reset_account
from sandbox.catalog import add_dataset
from sandbox.core import DATABASE, Sandbox, open_sandbox, put_bytes
from sandbox.datasets import Shape
from sandbox.launch import SandboxStartError, home_lock
from sandbox.roadsigns import road_signs
from sandbox.server import SandboxServer
from sandbox.settings import PIPELINES, REQUESTABLE, AccountSettings
from sandbox.store import OtherSchemaError, models, requests, versions
from sandbox.upkeep import sweep, trim_log


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox in a folder it makes itself."""
    opened = open_sandbox(tmp_path / "home")
    yield opened
    opened.store.close()


@pytest.fixture
def account(sandbox: Sandbox) -> Account:
    """An account with a dataset."""
    made = create_account(sandbox, AccountSettings())
    add_dataset(sandbox, made, "ds", road_signs(3, size=64))
    return made


def mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_home_is_its_owner_s_alone(sandbox: Sandbox, account: Account, tmp_path: Path) -> None:
    """The folder and the database with its journal, which hold keys, cannot be read by others."""
    assert mode(sandbox.home) == 0o700
    assert {mode(path) for path in sandbox.home.glob(f"{DATABASE}*")} == {0o600}
    home_lock(tmp_path / "other", "serving.lock", wait_s=0).release()
    assert mode(tmp_path / "other") == 0o700


def test_a_database_in_a_folder_of_somebody_s_choice_is_private_too(tmp_path: Path) -> None:
    """A home that was there before keeps its own mode; the file with the keys does not follow it."""
    tmp_path.chmod(0o755)
    open_sandbox(tmp_path).store.close()
    assert (mode(tmp_path), mode(tmp_path / DATABASE)) == (0o755, 0o600)


@pytest.mark.parametrize("change", ["PRAGMA user_version = 0", "PRAGMA user_version = 7"])
def test_a_home_of_another_version_is_refused_and_left_alone(tmp_path: Path, change: str) -> None:
    """The line says what to do, nothing in the file is touched, and nobody keeps it open."""
    open_sandbox(tmp_path).store.close()
    with sqlite3.connect(tmp_path / DATABASE) as file:
        file.execute(change)
        file.execute("DROP TABLE runs")
    file.close()
    with pytest.raises(OtherSchemaError, match="another version of the sandbox: remove that folder, or choose another"):
        open_sandbox(tmp_path)
    with pytest.raises(OtherSchemaError):
        SandboxServer(tmp_path).start()
    with sqlite3.connect(tmp_path / DATABASE) as file:
        assert "runs" not in {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
    file.close()
    home_lock(tmp_path, "serving.lock", wait_s=0).release()


def test_a_home_of_this_version_is_opened_again(sandbox: Sandbox, account: Account) -> None:
    """What was kept is there."""
    again = open_sandbox(sandbox.home)
    with again.store.read() as tx:
        assert tx.execute(select(func.count()).select_from(models)).scalar_one() == 0
    again.store.close()
    assert again.signing_key == sandbox.signing_key


@pytest.mark.parametrize(
    ("settings", "offered"),
    [
        (AccountSettings(), REQUESTABLE),
        (AccountSettings(pipelines=("yolox",)), ("yolox",)),
        (AccountSettings(dialect="v2"), PIPELINES["v2"]),
    ],
)
def test_the_default_account_of_an_older_home_offers_every_trainer(
    sandbox: Sandbox, settings: AccountSettings, offered: tuple[str, ...]
) -> None:
    """A home from before gets the new list at its next start; what somebody has chosen stays."""
    made = create_account(sandbox, settings)
    put_bytes(sandbox.home / "default-key", made.api_key.encode())
    assert server.seed_default_account(sandbox) == made.api_key
    with sandbox.store.read() as tx:
        found = find_by_key(tx, made.api_key)
    assert found is not None
    assert found.settings.accepted_pipelines == offered
    assert found.settings.model_dump(exclude={"pipelines"}) == settings.model_dump(exclude={"pipelines"})


@pytest.mark.parametrize("part", ["open_sandbox", "free_socket", "build"])
def test_a_start_that_fails_gives_everything_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    """Whatever breaks, the home can be served at the next try, and stop() of what never began is harmless."""
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError("no more of these")

        broken.setattr(server, part, fail)
        failing = SandboxServer(tmp_path)
        with pytest.raises(OSError, match="no more of these"):
            failing.start()
        failing.stop()
    home_lock(tmp_path, "serving.lock", wait_s=0).release()


def test_a_server_that_ends_while_it_starts_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The starter does not wait half a minute for a thread that is gone, and the lock is free again."""
    monkeypatch.setattr(server, "_run", lambda *_: None)
    with pytest.raises(SandboxStartError, match="did not start"):
        SandboxServer(tmp_path).start()
    home_lock(tmp_path, "serving.lock", wait_s=0).release()


def test_a_key_belongs_to_one_account(sandbox: Sandbox) -> None:
    """The second account with a key is refused, in words that do not hold the key."""
    create_account(sandbox, AccountSettings(), api_key="pk_live_known")
    with pytest.raises(AccountConflictError) as caught:
        create_account(sandbox, AccountSettings(), api_key="pk_live_known")
    assert "pk_live_known" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_reset_removes_the_files_too(sandbox: Sandbox, account: Account) -> None:
    """Images, exports and models of the account are gone; those of others are not."""
    other = create_account(sandbox, AccountSettings())
    kept = add_dataset(sandbox, other, "ds", road_signs(3, size=64))
    put_bytes(sandbox.object_path(account.id, "models", "v", "model.onnx"), b"weights")
    reset_account(sandbox, account)
    assert [path.name for path in (sandbox.home / "datasets").iterdir()] == [f"{kept['id']}.zip"]
    assert not (sandbox.objects / account.id).exists()


def test_a_replaced_dataset_shows_no_old_image(sandbox: Sandbox, account: Account) -> None:
    """The single images that links led to go with the dataset they were of, whatever their size; other data stays."""
    dataset = add_dataset(sandbox, account, "ds", road_signs(3, size=64))
    old = sandbox.object_path(account.id, "datasets", dataset["id"], "sign_0000.jpg")
    other = sandbox.object_path(account.id, "datasets", "other", "sign_0000.jpg")
    for path in (old, other):
        put_bytes(path, b"x")
    again = add_dataset(sandbox, account, "ds", road_signs(3, size=64, seed=1))
    assert (again["id"], old.exists(), other.exists()) == (dataset["id"], False, True)


def test_classes_are_listed_with_the_type_of_their_labels(sandbox: Sandbox, account: Account) -> None:
    """Classes of a tag dataset are tags, drawn ones boxes or polygons, as in the export; each has a color."""
    pictures = [replace(image, shapes=(), tags=("dry",)) for image in road_signs(2, size=64)]
    pictures[0] = replace(pictures[0], shapes=(Shape("car", (1.0, 1.0, 9.0, 9.0)),))
    classes = add_dataset(sandbox, account, "mixed", pictures)["classes"]
    assert [(label["name"], label["type"]) for label in classes] == [("car", "bbox"), ("dry", "tag")]
    assert all(label["color"].startswith("#") for label in classes)


def test_the_sweep_takes_what_nothing_refers_to(sandbox: Sandbox, account: Account) -> None:
    """Files of deleted rows and of unfinished writes go; files of rows that are there stay."""
    dataset = add_dataset(sandbox, account, "ds", road_signs(3, size=64))
    with sandbox.store.write() as tx:
        tx.execute(insert(versions).values(id="v1", model_id="m", run_id="r", number=1, created_at=0.0))
    files = {
        kind: sandbox.object_path(account.id, *kind, "file")
        for kind in (("models", "v1"), ("models", "v2"), ("exports", "e"), ("datasets", dataset["id"]))
    }
    strays = [sandbox.jobs / "ended" / "log.txt", sandbox.home / "datasets" / ".x.zip.part"]
    for path in (*files.values(), *strays):
        put_bytes(path, b"x")
    sweep(sandbox)
    assert [path.exists() for path in files.values()] == [True, False, False, True]
    assert not any(path.exists() for path in strays)
    assert sandbox.images_path(dataset["id"]).is_file()


def test_the_request_log_keeps_the_newest_rows(sandbox: Sandbox) -> None:
    """Now and then the oldest rows go, so that so many are left."""
    row = {"request_id": "r", "method": "GET", "path": "/", "query": "", "headers": {}, "counted": True, "at": 0.0}
    with sandbox.store.write() as tx:
        tx.execute(insert(requests), [row] * 1000)
        trim_log(tx, 999, kept=10)
        assert tx.execute(select(func.count()).select_from(requests)).scalar_one() == 1000
        trim_log(tx, 1000, kept=10)
        assert list(tx.execute(select(requests.c.seq).order_by(requests.c.seq)).scalars()) == list(range(991, 1001))
