"""Train, watch, collect and accept a vision model: the stages in order.

Run it as ``python -m flows.train_pipeline`` (no arguments: a rehearsal in the local sandbox), from a deployment, or
from the Prefect UI's form.
"""

from __future__ import annotations

from typing import Any, cast

from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Cancelled, Completed, Failed

from flows.verdicts import keep
from pipeline.data.training_data import is_gone_for_good
from pipeline.download.collection import promote_accepted
from pipeline.errors import PipelineError
from pipeline.journal.ownership import Lease
from pipeline.models import Outcome, RunReport, TrainingRun, TrainPlan, WatchedRun
from pipeline.provider_requests import AnyTrainRequest, read_request
from pipeline.report.dossier import Dossier, RunEndedError, utc_now
from pipeline.requests import TrainRequest
from pipeline.start.fallback import next_attempt
from pipeline.watch.polling import require_success
from tasks.approval import await_approval
from tasks.changes import compare_content
from tasks.collection import download_model
from tasks.crashes import refuse_crash_loop
from tasks.creation import create_training, find_training
from tasks.deferral import come_back_later, defer_until_ended
from tasks.display import say
from tasks.exports import validate_export
from tasks.interruption import cancel_with_flow_run, check_wanted, insist_on, leave, own_run_is_cancelled
from tasks.journal import close_failed, close_operation, known_cost, lease, note_completed
from tasks.planning import current_operation, plan_training
from tasks.polling import await_completion
from tasks.pricing import estimate_cost
from tasks.report import publish_report, settle_costs
from tasks.smoke import smoke_test_model, try_hosted_model

FINAL_STATES: dict[Outcome, tuple[Any, str]] = {
    Outcome.ACCEPTED: (Completed, "Completed"),
    Outcome.UNTRIED: (Completed, "Untried"),
    Outcome.SUBMITTED: (Completed, "Submitted"),
    Outcome.REJECTED: (Failed, "Rejected"),
    Outcome.FAILED: (Failed, "Failed"),
    Outcome.OVER_BUDGET: (Failed, "OverBudget"),
    Outcome.TIMED_OUT: (Failed, "TimedOut"),
    Outcome.CANCELLED: (Cancelled, "Cancelled"),
    Outcome.SKIPPED: (Completed, "Skipped"),
    Outcome.USAGE: (Failed, "InvalidRequest"),
}
"""How each outcome ends the flow run."""


def _name_run() -> str:
    request = read_request(runtime.flow_run.parameters["request"])
    return f"{'rehearse' if request.sandbox else 'train'}-{request.data_name}-{request.kind}"


@flow(
    name="train-pipeline",
    flow_run_name=_name_run,
    validate_parameters=True,
    on_cancellation=[cancel_with_flow_run],
)
def train_pipeline(request: AnyTrainRequest) -> State[RunReport]:
    """Retrain a vision model and accept it only when it can be trusted.

    Args:
        request: What to train, where, and within which limits.
    """
    dossier = Dossier(request, current_operation(request), utc_now())
    try:
        with lease() as held:
            report = _carry_out(request, dossier, held)
    except Pause:  # deferred or suspended: this flow run comes back by itself
        raise
    except BaseException:  # interrupted: the paid run goes on unless it is to be cancelled with us
        leave(dossier)
        raise
    factory, name = FINAL_STATES[report.outcome]
    # Prefect raises what a run that ended badly ended with, and chokes on values that cannot be raised.
    data = report if factory is Completed else RunEndedError(report)
    state: State[RunReport] = factory(name=name, message=report.message, data=data)
    insist_on(state)
    return state


def _carry_out(request: TrainRequest, dossier: Dossier, held: Lease) -> RunReport:
    try:
        refuse_crash_loop()
        _run_stages(request, dossier, held)
    except PipelineError as error:
        come_back_later(request, error)
        dossier.fail(error)
    if dossier.plan is not None and dossier.run is not None:
        dossier.settlement = settle_costs(dossier.plan, dossier.run)
    report = dossier.report(utc_now())
    publish_report(report)
    close_operation(dossier)  # last: whoever is killed before has all of it done again, and pays nothing again
    keep(report)
    return report


def _run_stages(request: TrainRequest, dossier: Dossier, held: Lease) -> None:
    plan = dossier.plan = plan_training(request, dossier.operation)
    held.hold(plan.operation_key)
    earlier = find_training(plan) if plan.operation.again else None
    run = _start(plan, dossier) if earlier is None else _take_over(plan, earlier, dossier)
    watched = _watch(plan, run, dossier) if run is not None else None
    while watched is not None and (larger := next_attempt(plan, watched)) is not None:
        plan = _give_up(plan, watched.run, larger, dossier)
        held.hold(plan.operation_key)
        watched = _watch(plan, _create(plan, dossier), dossier)
    if watched is None:
        return
    finished = require_success(watched)
    note_completed(plan)
    check_wanted(plan)
    if dossier.export is None:
        _read_export(plan, dossier)
    _try_model(plan, finished.run, dossier)
    check_wanted(plan)
    dossier.accept()
    dossier.artifact = promote_accepted(dossier.outcome, dossier.artifact)


def _try_model(plan: TrainPlan, run: TrainingRun, dossier: Dossier) -> None:
    """Bring the model here where it can be had, and try it: here, at the provider, or as far as was asked for."""
    artifact = dossier.artifact = dossier.take(download_model(plan, run))
    if artifact is not None and plan.request.tries_here(has_weights=True):
        dossier.smoke = dossier.take(smoke_test_model(plan, dossier.export, artifact))
    if plan.request.tries_there(has_weights=artifact is not None):
        dossier.hosted = try_hosted_model(plan, run, dossier.export)


def _start(plan: TrainPlan, dossier: Dossier) -> TrainingRun | None:
    export = dossier.export = validate_export(plan)
    unchanged = compare_content(plan, export)
    if unchanged is not None:
        dossier.skip_training(unchanged.reason)
        return None
    return _create(plan, dossier)


def _create(plan: TrainPlan, dossier: Dossier) -> TrainingRun:
    export = dossier.export if dossier.export is not None else validate_export(plan)
    cost = dossier.cost = dossier.take(estimate_cost(plan, export))
    if cost is not None:
        await_approval(plan, export, cost)
    dossier.creating = True
    run = dossier.run = create_training(plan, export, cost)
    return run


def _take_over(plan: TrainPlan, earlier: TrainingRun, dossier: Dossier) -> TrainingRun:
    """Go on with a run that is paid for: neither its price nor the state of its export may stand in the way."""
    dossier.run = earlier
    dossier.cost = known_cost(plan)
    dossier.skip("price", "the training is already paid for")
    return earlier


def _read_export(plan: TrainPlan, dossier: Dossier) -> None:
    """Read what a run that was taken over was trained on: only now, a deferred one is taken over at every look.

    What is gone for good, and at a second look too, leaves the model untried; a fault that may pass leaves it to the
    next one who comes back.
    """
    gone: PipelineError | None = None
    for _ in range(2):
        try:
            dossier.export = validate_export(plan)
        except PipelineError as error:
            if not is_gone_for_good(error, plan):
                raise
            gone = error
        else:
            return
    dossier.skip("export", str(gone))


def _watch(plan: TrainPlan, run: TrainingRun, dossier: Dossier) -> WatchedRun | None:
    if plan.request.wait == "none" and not run.status.is_terminal and not own_run_is_cancelled():
        dossier.submit("wait=none")
        return None
    if plan.request.wait == "defer":
        defer_until_ended(plan, run, dossier.cost)
    ended = await_completion(plan, run, dossier.cost)
    watched = dossier.watched = cast("WatchedRun", ended.result(raise_on_failure=False))
    dossier.run = watched.run
    return watched


def _give_up(plan: TrainPlan, run: TrainingRun, larger: TrainPlan, dossier: Dossier) -> TrainPlan:
    """End an attempt that did not fit into its GPU's memory, in favour of the next one."""
    batch = larger.request.config_asked.batch_size or "unchanged"
    say(f"{run.error_message}: trying again on {larger.request.tier}, batch {batch}", warning=True)
    settle_costs(plan, run)
    close_failed(plan, run)
    dossier.begin_attempt(larger)
    return larger


if __name__ == "__main__":
    import sys

    from flows.commandline import main

    sys.exit(main())
