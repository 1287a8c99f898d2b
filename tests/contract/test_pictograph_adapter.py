"""The Pictograph adapter against the sandbox over real sockets, in every dialect the vendor's API has spoken."""

from __future__ import annotations

import hashlib
import traceback
from typing import Any

import pytest
from pictograph import Client as Published
from pictograph.exceptions import ServerError

from pipeline.errors import (
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
    TransportError,
    UnexpectedResponseError,
)
from pipeline.models import ModelTask, RunStatus, Unit
from pipeline.start.adoption import take_by_id
from providers.connect import connect
from sandbox.settings import REQUESTABLE
from tests.contract.pictograph_accounts import (
    DATASET,
    DIALECTS,
    ENDLESS,
    SHORT,
    NewAccount,
    read,
)
from tests.notes import MemoryNotes


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_whole_life_in_every_dialect(new_account: NewAccount, dialect: str) -> None:
    """From account check to weights: one run, one bill, the ledger's charge equal to the sandbox's own bill."""
    account = new_account(**DIALECTS[dialect])
    provider, plan = account.provider, account.plan()
    provider.check_account(plan)
    export = account.export(plan)
    assert (export.dataset, export.image_count, export.include_images) == (DATASET, 8, True)
    with provider.open_export(export) as stream:
        assert read(stream)[:2] == b"PK"
    cost = provider.estimate_cost(plan, export)
    assert cost.sufficient
    assert cost.total.unit is (Unit.CREDITS if "credits" in dialect else Unit.MICRO_USD)
    assert cost.source == ("estimate" if dialect.startswith("v1") else "quote")
    assert provider.find_run(plan) is None
    created = provider.create_run(plan, provider.order(plan, export, MemoryNotes()), MemoryNotes())
    found = provider.find_run(plan)
    assert found is not None
    assert found.handle == created.handle
    run = account.finish(created)
    assert (run.status, run.progress, run.epoch) == (RunStatus.COMPLETED, 100.0, 4)
    model = provider.get_model(run)
    assert (model.status, model.task, len(model.classes) > 0) == ("ready", ModelTask.OBJECT_DETECTION, True)
    with provider.open_model(model) as stream:
        weights = read(stream)
        assert len(weights) == stream.facts.size_bytes
        assert stream.facts.digests == {"md5": hashlib.md5(weights, usedforsecurity=False).hexdigest()}
    settlement, bill = provider.settle(run), account.control.bill()
    assert settlement is not None
    assert (settlement.charged.amount, settlement.charged.unit.value) == (bill["net"], bill["unit"])
    assert (bill["started_runs"], bill["paid_runs"]) == (1, 1)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_names_that_do_not_exist_are_named(new_account: NewAccount, dialect: str) -> None:
    """Unknown data set, export, run and model are NotFoundError in every dialect; the nearest data set is offered."""
    account = new_account(**DIALECTS[dialect])
    provider, missing = account.provider, "99999999-9999-4999-8999-999999999999"
    with pytest.raises(NotFoundError, match=r"'road sings/1'.*'road signs/1'"):
        provider.check_account(account.plan(dataset="road sings/1"))
    with pytest.raises(NotFoundError, match="'nightly'"):
        provider.find_or_create_export(account.plan(export="nightly"))
    for call in (provider.training.get, provider.training.cancel, provider.models.get, provider.models.delete):
        with pytest.raises(NotFoundError):
            call(missing)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cancelling_in_every_dialect(new_account: NewAccount, dialect: str) -> None:
    """A live run is cancelled, a cancelled one is returned as it is, and nothing is charged in the end."""
    account = new_account(script=ENDLESS, **DIALECTS[dialect])
    run = account.run()[2]
    assert account.provider.cancel_run(run.handle).status is RunStatus.CANCELLED
    assert account.provider.cancel_run(run.handle).status is RunStatus.CANCELLED
    assert account.control.bill()["net"] == 0
    settlement = account.provider.settle(run)
    assert settlement is None or settlement.charged.amount == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_bulk_cancel_in_every_dialect(new_account: NewAccount, dialect: str) -> None:
    """Of a live and an ended run, the live one is cancelled and the ended one comes back as not found."""
    account = new_account(script=ENDLESS, **DIALECTS[dialect])
    live, ended = account.run()[2].handle, account.run()[2].handle
    account.provider.cancel_run(ended)
    result = account.provider.training.bulk_cancel((live.run_id, ended.run_id))
    assert (result.succeeded, result.not_found) == ((live.run_id,), (ended.run_id,))
    assert account.provider.get_run(live).status is RunStatus.CANCELLED


@pytest.mark.parametrize("dialect", DIALECTS)
def test_paging_reads_everything(new_account: NewAccount, dialect: str) -> None:
    """Five runs in pages of two are five runs, and several are looked at with one request."""
    account = new_account(script=ENDLESS, **DIALECTS[dialect])
    plan = account.plan()
    export = account.export(plan)
    runs = [account.create(account.plan(), export).handle for _ in range(5)]
    listed = [run.handle for run in account.provider.training.iter(dataset=DATASET, page_size=2)]
    assert sorted(handle.run_id for handle in listed) == sorted(handle.run_id for handle in runs)
    before = len(account.control.requests())
    assert tuple(run.handle for run in account.provider.get_runs(tuple(runs))) == tuple(runs)
    assert len(account.control.requests()) == before + 1


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "fault", [{"action": "reset"}, {"action": "close"}, {"action": "status", "status": 502}], ids=lambda f: f["action"]
)
def test_a_lost_answer_to_create_pays_once(new_account: NewAccount, dialect: str, fault: dict[str, Any]) -> None:
    """The run was made and its answer lost: said to be unknown, found by its name, and the same run if sent again."""
    account = new_account(script=ENDLESS, **DIALECTS[dialect])
    plan = account.plan()
    export = account.export(plan)
    account.control.fault(**fault, method="POST", path=r"/training/$", stage="after")
    with pytest.raises(ProviderError) as caught:
        account.create(plan, export)
    assert caught.value.context.outcome_unknown
    assert account.paths("POST").count("/api/v1/developer/training/") == 1
    found = account.provider.find_run(plan)
    assert found is not None
    assert account.create(plan, export).handle == found.handle
    assert account.control.bill()["started_runs"] == 1


@pytest.mark.parametrize("stage", ["before", "after"])
def test_a_create_without_any_answer_is_unknown_and_can_be_found(new_account: NewAccount, stage: str) -> None:
    """When every attempt loses its answer the error says so, and looking by name tells whether the run exists."""
    account = new_account(script=ENDLESS)
    plan = account.plan()
    export = account.export(plan)
    account.control.fault("reset", method="POST", path=r"/training/$", stage=stage, times=None)
    with pytest.raises(TransportError) as caught:
        account.create(plan, export)
    assert caught.value.context.outcome_unknown
    assert (account.provider.find_run(plan) is not None) == (stage == "after")
    assert account.control.bill()["started_runs"] == (1 if stage == "after" else 0)


def test_an_export_whose_answer_was_lost_is_taken(new_account: NewAccount) -> None:
    """A rerun of the same operation takes the export the first attempt made, and does not make another."""
    account = new_account()
    plan = account.plan()
    account.control.fault("reset", method="POST", path=r"/exports/$", stage="after", times=4)
    with pytest.raises(TransportError):
        account.provider.find_or_create_export(plan)
    export = account.connect(account.control.api_key).find_or_create_export(plan)
    assert export.name == plan.export_name
    assert len(account.provider.exports.list(dataset=DATASET)) == 1


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_empty_account_cannot_train(new_account: NewAccount, dialect: str) -> None:
    """Without money the estimate says insufficient and the create says what is missing, in the account's unit."""
    account = new_account(**DIALECTS[dialect], balance=1)
    plan = account.plan()
    export = account.export(plan)
    assert not account.provider.estimate_cost(plan, export).sufficient
    with pytest.raises(
        InsufficientCreditsError, match=r"remaining 1 credits" if "credits" in dialect else r"remaining \$0"
    ):
        account.create(plan, export)
    assert account.control.bill()["started_runs"] == 0


def test_what_the_server_refuses(new_account: NewAccount) -> None:
    """Role, cold storage, unfinished export and unknown values each become their own error."""
    account = new_account(export_pending_s=30)
    account.control.add_dataset("cold", count=5, cold=True)
    with pytest.raises(ConflictError):
        account.provider.find_or_create_export(account.plan(dataset="cold"))
    plan = account.plan()
    export = account.provider.find_or_create_export(plan)
    with pytest.raises(ConflictError), account.provider.open_export(export):
        pass
    with pytest.raises(InvalidRequestError, match="completed"):
        account.create(plan, export)
    with pytest.raises(InvalidRequestError):
        account.provider.credits.estimate("training_nothing", quantity=1)
    account.control.configure(role="viewer")
    with pytest.raises(PermissionDeniedError):
        account.provider.find_or_create_export(account.plan())


def test_a_wrong_key_is_refused_and_shown_nowhere(new_account: NewAccount) -> None:
    """401 is AuthenticationError, and the key is in no part of the exception's chain."""
    canary = "pk_live_wrong_canary"
    account = new_account()
    with pytest.raises(AuthenticationError) as caught:
        account.connect(canary).check_account(account.plan())
    assert canary not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


@pytest.mark.parametrize("fault", [
    {"action": "status", "status": 503}, {"action": "status", "status": 429, "retry_after": "0"},
    {"action": "status", "status": 500}, {"action": "reset"}, {"action": "close"},
])  # fmt: skip
def test_one_failure_of_a_look_is_not_noticed(new_account: NewAccount, fault: dict[str, Any]) -> None:
    """A look survives passing trouble of every kind."""
    account = new_account(script=ENDLESS)
    run = account.run()[2]
    account.control.fault(**fault, method="GET", path=r"/training/.", times=2)
    assert account.provider.get_run(run.handle).handle == run.handle


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"action": "status", "status": 503}, ProviderUnavailableError),
        ({"action": "status", "status": 429, "retry_after": "3600"}, RateLimitError),
        ({"action": "status", "status": 404}, NotFoundError),
        ({"action": "body"}, UnexpectedResponseError),
        ({"action": "reset"}, TransportError),
    ],
)
def test_lasting_trouble_of_a_look_is_told_apart(
    new_account: NewAccount, fault: dict[str, Any], error: type[ProviderError]
) -> None:
    """What does not pass within four attempts comes out as its own error; a long Retry-After is carried along."""
    account = new_account(script=ENDLESS)
    run = account.run()[2]
    account.control.fault(**fault, method="GET", path=r"/training/.", times=None)
    with pytest.raises(error) as caught:
        account.provider.get_run(run.handle)
    assert caught.value.context.retry_after_s == (3600 if error is RateLimitError else None)


def test_an_unknown_status_is_no_end(new_account: NewAccount) -> None:
    """A word of tomorrow is shown and waited through."""
    account = new_account(script={"mode": "looks", "steps": [{"status": "hibernating", "for_looks": 2},
                                                             {"status": "completed"}]})  # fmt: skip
    run = account.provider.get_run(account.run()[2].handle)
    assert (run.status, run.provider_status) == (RunStatus.UNKNOWN, "hibernating")
    assert account.finish(run).status is RunStatus.COMPLETED


def test_a_failed_run_tells_why(new_account: NewAccount) -> None:
    """The provider's reason is kept."""
    steps = [{"status": "running", "for_looks": 1}, {"status": "failed", "error_message": "CUDA out of memory"}]
    account = new_account(script={"mode": "looks", "steps": steps})
    run = account.finish(account.run()[2])
    assert run.status is RunStatus.FAILED
    assert "CUDA out of memory" in (run.error_message or "")


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    new_account: NewAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loopback addresses are called directly, for the API as for the storage, whatever proxy is configured."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    account = new_account()
    with account.provider.open_model(account.model()) as stream:
        assert read(stream)


def test_connecting_to_a_running_sandbox(new_account: NewAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two variables of a running sandbox lead to an adapter that works and is marked as a rehearsal."""
    account = new_account()
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_URL", account.control.url)
    monkeypatch.setenv("TRAIN_PIPELINE_SANDBOX_KEY", account.control.api_key)
    provider = connect("pictograph", sandbox=True)
    provider.check_account(account.plan())
    provider.close()
    assert provider.profile.sandbox


@pytest.mark.parametrize("dialect", DIALECTS)
def test_models_are_listed_and_deleted(new_account: NewAccount, dialect: str) -> None:
    """A model shows in lists under its name and type, and once deleted it cannot be opened."""
    account = new_account(**DIALECTS[dialect])
    model = account.model()
    models = account.provider.models
    assert [row.id for row in models.iter(model_type="object_detection")] == [model.model_id]
    assert models.list(status="ready")[0].name == model.name
    models.delete(model.model_id)
    with pytest.raises((NotFoundError, ConflictError)), account.provider.open_model(model):
        pass


def test_a_list_that_the_published_client_cannot_read(new_account: NewAccount) -> None:
    """As with the vendor, a detectron2 run breaks today's client's lists and not ours; naming the others mends it."""
    account = new_account(dialect="both", pipelines=REQUESTABLE, script=SHORT)
    plan = account.plan(pipeline="detectron2")
    order = account.provider.order(plan, account.export(plan), MemoryNotes())
    run = account.finish(account.provider.create_run(plan, order, MemoryNotes()))
    assert run.status is RunStatus.COMPLETED
    assert [row.pipeline for row in account.provider.training.list()] == ["detectron2"]
    assert account.provider.get_model(run).task is ModelTask.INSTANCE_SEGMENTATION
    with Published(api_key=account.control.api_key, base_url=account.control.url) as client:
        with pytest.raises(ServerError, match="detectron2"):
            client.training.list()
        assert [model.name for model in client.models.list()] == [run.handle.name]
        account.control.configure(pipelines=[name for name in REQUESTABLE if name != "detectron2"])
        assert list(client.training.list()) == []


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_run_started_by_hand_is_held_to_its_data_set(new_account: NewAccount, dialect: str) -> None:
    """In every dialect a run shows what it trains: another data set's is refused, the same one's is taken over."""
    account = new_account(**DIALECTS[dialect], script=ENDLESS)
    run_id = account.run()[2].handle.run_id
    account.control.add_dataset("birds", count=5)
    with pytest.raises(ConfigurationError, match="not 'birds'") as caught:
        take_by_id(account.provider, account.plan(dataset="birds"), run_id)
    assert caught.value.context.field == "dataset"
    assert take_by_id(account.provider, account.plan(), run_id).adopted
