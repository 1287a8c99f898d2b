"""Pictograph's training runs, always addressed by id. Source: seed document "Training", checked 2026-11-20."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pydantic import JsonValue

from pipeline.errors import (
    ConflictError,
    ErrorContext,
    InvalidRequestError,
    NotFoundError,
    ProviderError,
    UnexpectedResponseError,
)
from pipeline.models import TrainingRun
from providers.http import path_segment
from providers.pictograph.session import PAGE_SIZE, Listing, PictographSession, filters, get, post, without_effect
from providers.pictograph.values import BulkResult, TrainingQuote, TrainingSpec
from providers.pictograph.wire import BulkWire, RunWire
from providers.pictograph.wire_money import QuoteWire

# What a server answers to a route it does not have: "quote" is then read as the id of a run.
ROUTE_MISSING = frozenset({404, 405})


class Training:
    """Training runs."""

    def __init__(self, session: PictographSession) -> None:
        self._session = session

    def quote(self, spec: TrainingSpec) -> TrainingQuote:
        """Price a training and check whether it could start; writes and charges nothing."""
        request = without_effect(post("training.quote", "/training/quote", _body(spec)))
        return self._session.read(request, "quote", QuoteWire).to_value()

    def create(self, spec: TrainingSpec, name: str, *, key: str) -> TrainingRun:
        """Start a paid training; ``key`` is the operation's, so that repeating the call pays once.

        Once an answer was lost nothing is sent again here: how the vendor treats a reused key is not published, so the
        caller looks for the run first.

        Raises:
            InsufficientCreditsError: The message carries what is required and what remains.
            ProviderError: With ``context.outcome_unknown`` when the run may exist although no usable answer came.
        """
        request = replace(
            post("training.create", "/training/", {**_body(spec), "name": name}, key=key), look_first=True
        )
        return self._session.read(request, "training_run", RunWire).to_value(spec.dataset)

    def list(
        self, *, limit: int = PAGE_SIZE, offset: int = 0, dataset: str | None = None, status: str | None = None
    ) -> tuple[TrainingRun, ...]:
        """Return one page."""
        rows = self._session.list_rows(self._listing(dataset, status), RunWire, limit, offset)
        return tuple(row.to_value(dataset or "") for row in rows)

    def iter(
        self, *, dataset: str | None = None, status: str | None = None, page_size: int = PAGE_SIZE
    ) -> Iterator[TrainingRun]:
        """Yield all of them."""
        rows = self._session.iter_rows(self._listing(dataset, status), RunWire, page_size)
        return (row.to_value(dataset or "") for row in rows)

    def get(self, run_id: str, *, dataset: str = "") -> TrainingRun:
        """Return a run.

        Raises:
            NotFoundError: There is none of this id.
            UnexpectedResponseError: The answer is about another run.
        """
        request = get("training.get", f"/training/{path_segment(run_id)}")
        run = self._session.read(request, "training_run", RunWire).to_value(dataset)
        return _same(run, run_id)

    def cancel(self, run_id: str, *, dataset: str = "") -> TrainingRun:
        """Ask for the end of a run; one that has already ended is returned as it is.

        Raises:
            NotFoundError: There is none of this id.
        """
        request = post("training.cancel", f"/training/{path_segment(run_id)}/cancel")
        try:
            reply = self._session.call(request)
        except (InvalidRequestError, ConflictError):
            run = self.get(run_id, dataset=dataset)
            if run.status.is_terminal:
                return run
            raise
        if reply.payload is None:
            return self.get(run_id, dataset=dataset)
        return _same(self._session.parse(reply, "training_run", RunWire).to_value(dataset), run_id)

    def bulk_cancel(self, run_ids: tuple[str, ...]) -> BulkResult:
        """Ask for the end of many runs; ended and unknown ones come back as not found. One by one on older servers."""
        body: dict[str, JsonValue] = {"run_ids": [*run_ids]}
        try:
            found = self._session.read(post("training.bulk_cancel", "/training/bulk-cancel", body), "result", BulkWire)
        except ProviderError as error:
            if error.context.status_code not in ROUTE_MISSING:
                raise
            return self._cancel_each(run_ids)
        return BulkResult(succeeded=found.succeeded, not_found=found.not_found)

    def _cancel_each(self, run_ids: tuple[str, ...]) -> BulkResult:
        succeeded, not_found = [], []
        for run_id in run_ids:
            try:
                # cancel() hides whether the run had ended before, and this answer is about exactly that.
                self._session.call(post("training.cancel", f"/training/{path_segment(run_id)}/cancel"))
            except (InvalidRequestError, ConflictError, NotFoundError):
                not_found.append(run_id)
            else:
                succeeded.append(run_id)
        return BulkResult(succeeded=tuple(succeeded), not_found=tuple(not_found))

    @staticmethod
    def _listing(dataset: str | None, status: str | None) -> Listing:
        return Listing("training.list", "/training/", "training_runs", filters(dataset_name=dataset, status=status))


def _body(spec: TrainingSpec) -> dict[str, JsonValue]:
    return {
        "dataset_name": spec.dataset,
        "export_name": spec.export,
        "pipeline_type": spec.pipeline,
        "gpu_type": spec.gpu,
        "config": spec.config,
    }


def _same(run: TrainingRun, run_id: str) -> TrainingRun:
    if run.handle.run_id.lower() != run_id.lower():
        message = f"Asked about run {run_id!r}, the answer is about {run.handle.run_id!r}: look again."
        raise UnexpectedResponseError(message, ErrorContext(operation="training.get", run_id=run_id))
    return run
