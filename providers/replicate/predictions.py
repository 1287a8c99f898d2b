"""Predictions of a trained version. Source: OpenAPI 1.0.0-a1, checked 2026-11-20."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import JsonValue

from providers.calls import ApiRequest
from providers.http import path_segment
from providers.replicate.session import ReplicateSession, get
from providers.replicate.wire import PredictionWire

WAIT_S = 60
"""Seconds a create is held open for its output: the most the API offers."""
LEAST_CANCEL_AFTER_S = 5
"""The least the API takes."""


class Predictions:
    """Predictions; each is billed for the time it runs, on a private model also for its boot."""

    def __init__(self, session: ReplicateSession) -> None:
        self._session = session

    def create(self, version: str, inputs: Mapping[str, JsonValue], *, within_s: float) -> PredictionWire:
        """Ask a version, and wait a while for its answer; the provider itself ends the prediction after ``within_s``.

        Not declared as an effect: what may be lost is one prediction that ends by itself, never a training.
        """
        cancel_after_s = max(math.ceil(within_s), LEAST_CANCEL_AFTER_S)
        request = ApiRequest(
            "predictions.create",
            "POST",
            "/v1/predictions",
            body={"version": version, "input": dict(inputs)},
            headers=(("Prefer", f"wait={WAIT_S}"), ("Cancel-After", f"{cancel_after_s}s")),
            timeout_s=WAIT_S + 15.0,
        )
        return self._session.read(request, PredictionWire)

    def get(self, prediction_id: str) -> PredictionWire:
        """Return a prediction.

        Raises:
            NotFoundError: There is none of this id, or not yet.
        """
        return self._session.read(
            get("predictions.get", f"/v1/predictions/{path_segment(prediction_id)}"), PredictionWire
        )

    def cancel(self, prediction_id: str) -> None:
        """Ask for the end of a prediction."""
        path = f"/v1/predictions/{path_segment(prediction_id)}/cancel"
        self._session.call(ApiRequest("predictions.cancel", "POST", path, repeatable=True))
