"""What the pipeline asks of any provider, each vendor's adapter against the sandbox over real sockets.

Where vendors differ, what is expected is computed from the adapter's own profile.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.errors import (
    InsufficientCreditsError,
    NotFoundError,
    NotOfferedError,
    PermissionDeniedError,
    ProviderError,
    ProviderUnavailableError,
    RetryableProviderError,
)
from pipeline.models import CostEstimate, Money, RunStatus, Skipped, TrainingRun, Unit
from sandbox.server import SandboxServer
from tests.contract.adapters import DONE, HALFWAY, RUNNING, Bench, in_flight, opened, tried
from tests.contract.pictograph_accounts import read
from tests.notes import MemoryNotes


def ended(bench: Bench) -> TrainingRun:
    """Return a run that has completed."""
    return bench.moved(bench.run(), DONE)


def test_an_order_becomes_one_run(bench: Bench) -> None:
    """It is not there before, is found afterwards where runs can be, looks the same again, and is one."""
    provider, ready = bench.adapter(), bench.order()
    provider.check_account(ready.plan)
    assert provider.profile == ready.plan.profile == bench.profile
    assert provider.find_run(ready.plan) is None
    assert provider.find_run(ready.plan, ready.order) is None
    assert bench.started() == 0
    run = bench.create(ready, provider)
    assert in_flight(run)
    assert (run.handle.provider, run.handle.name) == (bench.name, ready.plan.run_name)
    assert run.handle.dataset == ready.plan.request.dataset
    found = bench.adapter().find_run(ready.plan, ready.order)
    assert (found.handle if found else None) == (run.handle if bench.profile.finds_runs else None)
    seen = bench.adapter().get_run(run.handle)
    assert (seen.handle, in_flight(seen)) == (run.handle, True)
    assert bench.started() == 1


def test_a_run_goes_its_way_to_the_end(bench: Bench) -> None:
    """It runs, shows how far it is and what it prints where the profile says so, and ends for good with a model."""
    run = bench.moved(bench.run(), RUNNING)
    assert run.status is RunStatus.RUNNING
    halfway = bench.moved(run, HALFWAY - RUNNING)
    assert halfway.progress == (50.0 if bench.profile.shows_progress else None)
    assert (halfway.logs is not None) is bench.profile.shows_logs
    assert halfway.model_id is None
    done = bench.moved(run, DONE - HALFWAY)
    assert (done.status, done.error_message) == (RunStatus.COMPLETED, None)
    assert done.model_id
    assert done.provider_status
    assert bench.adapter().get_run(run.handle) == done


def test_a_failed_run_says_so(bench: Bench) -> None:
    """It is an end without a model, and carries the reason."""
    steps = [{"status": "running"}, {"status": "failed", "error_message": "the loss became NaN"}]
    bench.control.configure(script={"mode": "manual", "steps": steps})
    run = bench.moved(bench.run(), 1)
    assert (run.status, run.model_id) == (RunStatus.FAILED, None)
    assert "the loss became NaN" in (run.error_message or "")


def test_a_word_of_tomorrow_is_no_end(bench: Bench) -> None:
    """It is kept as the provider says it, and waited through."""
    steps = [{"status": "hibernating"}, {"status": "completed"}]
    bench.control.configure(script={"mode": "manual", "steps": steps})
    seen = bench.adapter().get_run(bench.run().handle)
    assert (seen.status, seen.provider_status) == (RunStatus.UNKNOWN, "hibernating")
    assert bench.moved(seen, 1).status is RunStatus.COMPLETED


def test_the_price_comes_from_where_the_profile_says(bench: Bench) -> None:
    """Asked of the provider, computed from rates, named by the request, or skipped with a reason."""
    provider, plan = bench.adapter(), bench.plan()
    cost = provider.estimate_cost(plan, bench.export(plan))
    assert isinstance(cost, CostEstimate) is (bench.profile.prices in {"provider", "rates"})
    if isinstance(cost, Skipped):
        assert (cost.stage, cost.reason != "") == ("price", True)
    else:
        assert (cost.source, cost.sufficient) == (
            "quote" if bench.profile.prices == "provider" else "estimate",
            True,
        )
    if bench.profile.prices == "configured":
        named = provider.estimate_cost(bench.plan(price_credits=7), bench.export(plan))
        assert isinstance(named, CostEstimate)
        assert (named.total, named.source) == (Money(amount=7, unit=Unit.CREDITS), "configured")
    assert bench.started() == 0


def test_the_bill_is_the_sandbox_s_own(bench: Bench) -> None:
    """What is read of an ended run is what was charged, where bills can be read; nothing otherwise."""
    run = ended(bench)
    settlement, bill = bench.adapter().settle(run), bench.control.bill()
    assert (settlement is not None) is bench.profile.bills
    if settlement is not None:
        assert (settlement.charged.amount, settlement.charged.unit) == (bill["net"], bill["unit"])
        assert bill["net"] > 0
    assert bill["started_runs"] == 1


def test_an_account_without_money_starts_nothing(bench: Bench) -> None:
    """A vendor that bills says that money is lacking, and nothing was started; one that does not bill goes on."""
    ready = bench.order()
    bench.control.set_balance(0)
    if bench.profile.prices == "none":
        assert in_flight(bench.create(ready))
        return
    with pytest.raises(InsufficientCreditsError) as caught:
        bench.create(ready)
    assert not caught.value.context.outcome_unknown
    assert bench.started() == 0


def test_weights_come_as_the_profile_says(bench: Bench) -> None:
    """They can be downloaded whole, as ONNX or in an archive; or both calls say that there are none."""
    run, provider = ended(bench), bench.adapter()
    if bench.profile.weights == "none":
        with pytest.raises(NotOfferedError):
            provider.get_model(run)
        return
    model = provider.get_model(run)
    assert (model.model_id, model.status, model.task) == (run.model_id, "ready", bench.plan().task)
    with provider.open_model(model) as stream:
        content = read(stream)
    assert len(content) == stream.facts.size_bytes
    # An ONNX file begins with its version of the format, an archive (here a tar) with the name of a file.
    assert (content[0] == 8) is (bench.profile.weights == "onnx")


def test_the_model_is_asked_there_where_it_can_be(bench: Bench) -> None:
    """It answers at the provider, which bills it or not; or the call says that it is not offered."""
    run, plan = ended(bench), bench.plan()
    if bench.profile.hosted_inference == "none":
        with pytest.raises(NotOfferedError):
            bench.adapter().hosted_inference(plan, run, bench.report(plan))
        return
    before = bench.control.bill()["net"]
    report = bench.adapter().hosted_inference(plan, run, bench.report(plan))
    assert (report.model_id, report.inconclusive) == (run.model_id, None)
    assert report.answered == report.asked > 0
    assert (bench.control.bill()["net"] > before) is (bench.profile.hosted_inference == "billed")
    assert bench.started() == 1


def test_exports_are_only_where_the_data_is_one(bench: Bench) -> None:
    """Where the training data is a local file, no call pretends that there are exports."""
    provider, plan = bench.adapter(), bench.plan()
    export = bench.export(plan)
    if bench.profile.data == "export":
        with provider.open_export(provider.get_export(export)) as stream:
            assert read(stream)[:2] == b"PK"
        return
    with pytest.raises(NotOfferedError):
        provider.find_or_create_export(plan)
    with pytest.raises(NotOfferedError):
        provider.get_export(export)
    with pytest.raises(NotOfferedError), provider.open_export(export):
        pass


def test_many_are_seen_at_once(bench: Bench) -> None:
    """In the order they were asked for, without the unknown one, with fewer requests where runs can be listed."""
    runs = [bench.run().handle for _ in range(3)]
    provider = bench.adapter()
    before = len(bench.asked())
    seen = provider.get_runs(tuple(runs))
    assert [run.handle for run in seen] == runs
    asked = len(bench.asked()) - before
    assert asked < len(runs) if bench.profile.lists_runs else asked == len(runs)
    with_stranger = (runs[2], bench.unknown(runs[0]), runs[0], runs[1])
    assert [run.handle for run in provider.get_runs(with_stranger)] == [runs[2], runs[0], runs[1]]
    assert provider.get_runs(()) == ()
    assert provider.get_runs((bench.unknown(runs[0]),)) == ()


def test_trouble_with_many_is_not_their_absence(bench: Bench) -> None:
    """A server that cannot answer makes an error, not an empty answer."""
    runs = tuple(bench.run().handle for _ in range(2))
    bench.fault(bench.vendor.look, action="status", status=503)
    with pytest.raises(ProviderUnavailableError):
        bench.once.get_runs(runs[:1])
    with pytest.raises(ProviderUnavailableError):
        bench.once.get_runs((*runs, bench.unknown(runs[0])))
    bench.fault(bench.vendor.listing or bench.vendor.look, action="status", status=503)
    with pytest.raises(ProviderUnavailableError):
        bench.once.get_runs(runs)


def test_only_what_goes_on_is_live(bench: Bench) -> None:
    """Runs that have not ended are listed, where runs can be; none is named that has."""
    first, second, third = (bench.run() for _ in range(3))
    bench.moved(second, DONE)
    live = {run.handle.run_id: run for run in bench.adapter().live_runs()}
    expected = {first.handle.run_id, third.handle.run_id} if bench.profile.lists_runs else set()
    assert live.keys() == expected
    assert all(in_flight(run) and run.handle.provider == bench.name for run in live.values())


def test_cancelling_does_what_the_profile_says(bench: Bench) -> None:
    """A run ends for certain, or by advice that it need not take, or the call is refused and the run goes on."""
    run, provider = bench.moved(bench.run(), RUNNING), bench.adapter()
    assert (bench.vendor.cancel is None) is (bench.profile.cancels == "no")
    if bench.profile.cancels == "no":
        with pytest.raises(NotOfferedError):
            provider.cancel_run(run.handle)
        assert bench.moved(run, DONE - RUNNING).status is RunStatus.COMPLETED
        return
    cancelled = provider.cancel_run(run.handle)
    assert (cancelled.handle, cancelled.status) == (run.handle, RunStatus.CANCELLED)
    assert provider.cancel_run(run.handle).status is RunStatus.CANCELLED
    assert provider.get_run(run.handle).status is RunStatus.CANCELLED
    assert bool(cancelled.warnings) is (bench.profile.cancels == "advice")
    later = bench.moved(run, DONE - RUNNING)
    assert later.status is (RunStatus.COMPLETED if bench.profile.cancels == "advice" else RunStatus.CANCELLED)


def test_a_run_that_has_ended_is_not_cancelled(bench: Bench) -> None:
    """It is returned as it is, also where the vendor refuses to cancel it; its model stays."""
    run = ended(bench)
    if bench.vendor.cancel is None:
        with pytest.raises(NotOfferedError):
            bench.adapter().cancel_run(run.handle)
    else:
        assert bench.adapter().cancel_run(run.handle) == run
        bench.fault(bench.vendor.cancel, **bench.vendor.conflict.fault())
        assert bench.adapter().cancel_run(run.handle) == run
    assert bench.adapter().get_run(run.handle).status is RunStatus.COMPLETED


@pytest.mark.parametrize("fault", [{"action": "reset"}, {"action": "status", "status": 502}], ids=["reset", "502"])
def test_a_cancel_whose_answer_was_lost_can_be_asked_for_again(bench: Bench, fault: dict[str, Any]) -> None:
    """Once or twice asked, the run reads cancelled; where nothing can be cancelled nothing is sent either."""
    run = bench.moved(bench.run(), RUNNING)
    provider, before = bench.adapter(), len(bench.asked())
    if bench.vendor.cancel is None:
        with pytest.raises(NotOfferedError):
            provider.cancel_run(run.handle)
        assert len(bench.asked()) == before
        return
    bench.fault(bench.vendor.cancel, stage="after", times=1, **fault)
    seen = tried(lambda: provider.cancel_run(run.handle))
    if isinstance(seen, ProviderError):
        assert isinstance(seen, RetryableProviderError)
        seen = provider.cancel_run(run.handle)
    assert seen.status is RunStatus.CANCELLED
    assert bench.adapter().get_run(run.handle).status is RunStatus.CANCELLED


def test_what_does_not_exist_is_not_found(bench: Bench) -> None:
    """A run nobody made is NotFoundError for a look, and for a cancel where there is such a call."""
    provider, handle = bench.adapter(), bench.unknown(bench.run().handle)
    with pytest.raises(NotFoundError) as caught:
        provider.get_run(handle)
    assert not caught.value.context.outcome_unknown
    with pytest.raises(NotOfferedError if bench.profile.cancels == "no" else NotFoundError):
        provider.cancel_run(handle)


def test_somebody_else_s_run_is_not_shown(bench: Bench, server: SandboxServer) -> None:
    """Another account is told that it is not there, or not for it; and lists do not name it."""
    run = bench.run()
    with opened(server, bench.name, bench.folder) as other:
        with pytest.raises((NotFoundError, PermissionDeniedError)):
            other.adapter().get_run(run.handle)
        assert other.adapter().live_runs() == ()
        assert other.adapter().account != bench.adapter().account


def test_an_id_is_one_segment_of_an_address(bench: Bench) -> None:
    """Whatever is in it, it addresses one run, which is not there, and nothing else."""
    handle, provider = bench.run().handle, bench.adapter()
    before = len(bench.asked())
    for run_id in ("", ".", "..", "a/b", "../models", "a?b=c", "a#b", "a%2fb", "ä ö", "\x00", "x" * 300):
        with pytest.raises(ProviderError):
            provider.get_run(handle.model_copy(update={"run_id": run_id}))
    assert all(one["method"] == bench.vendor.look.method for one in bench.asked()[before:])
    assert bench.started() == 1


def test_preparing_again_sends_no_data_again(bench: Bench) -> None:
    """Notes of what was uploaded are believed by another process; nothing is started by preparing."""
    ready = bench.order()
    posts = sum(one["method"] == "POST" for one in bench.asked())
    again = bench.adapter().order(ready.plan, bench.export(ready.plan), ready.notes)
    assert sum(one["method"] == "POST" for one in bench.asked()) == posts
    assert set(again) == set(ready.order)
    assert json.loads(json.dumps(ready.notes.read())) == ready.notes.read()
    bench.create(ready)
    assert bench.started() == 1


@pytest.mark.parametrize("fault", [{"action": "reset"}, {"action": "status", "status": 502}], ids=["reset", "502"])
def test_an_upload_whose_answer_was_lost_starts_nothing(bench: Bench, fault: dict[str, Any]) -> None:
    """Preparing goes on, or fails certainly and is done again by another process with the same notes."""
    plan, notes = bench.plan(), MemoryNotes()
    export = bench.export(plan)
    if bench.vendor.upload is not None:
        bench.fault(bench.vendor.upload, stage="after", times=1, **fault)
    order = tried(lambda: bench.adapter().order(plan, export, notes))
    if isinstance(order, ProviderError):
        assert not order.context.outcome_unknown
        order = bench.adapter().order(plan, export, notes)
    assert bench.started() == 0
    assert in_flight(bench.adapter().create_run(plan, order, notes))
    assert bench.started() == 1
