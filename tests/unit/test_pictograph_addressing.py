"""Envelopes and addresses of both eras of the Pictograph API: detected, remembered, tried the other way once."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import (
    NotFoundError,
    ProviderError,
    UnexpectedResponseError,
)
from tests.unit.scripted_pictograph import (
    HANDLE,
    api,
    new_server,
    ok,
    old_server,
    refused,
    run_row,
)


def test_the_era_is_read_from_one_answer_and_remembered() -> None:
    """One small read decides; names are one quoted segment; no address of the other era is tried."""
    for routes, expected in [
        (old_server(), ["GET /datasets/by-name/road%2Fsigns", "GET /exports/road%2Fsigns/ex%201"]),
        (new_server(), ["GET /datasets/road%2Fsigns", "GET /exports/ex%201?dataset=road%2Fsigns"]),
    ]:
        server = api(routes)
        provider = server.provider
        provider.datasets.get("road/signs")
        provider.exports.get("road/signs", "ex 1")
        assert server.lines() == ["GET /datasets/?limit=1&offset=0", *expected]


def test_an_answer_that_came_anyway_shows_the_era() -> None:
    """After any enveloped answer no probing read is needed."""
    server = api({**new_server(), "GET /training/": ok({"data": []})})
    provider = server.provider
    provider.training.list()
    provider.datasets.get("road/signs")
    assert server.lines() == ["GET /training/?limit=100&offset=0", "GET /datasets/road%2Fsigns"]


@pytest.mark.parametrize("status", [404, 405, 422])
def test_a_miss_is_tried_the_other_way_once_and_learned(status: int) -> None:
    """An answer in today's envelope with the old addresses is found by the second address, from then on directly."""
    server = api({**old_server(), "GET /datasets/": ok({"data": []}), "GET /datasets/road%2Fsigns": refused(status)})
    provider = server.provider
    provider.datasets.get("road/signs")
    provider.datasets.get("road/signs")
    assert server.lines()[1:] == [
        "GET /datasets/road%2Fsigns", "GET /datasets/by-name/road%2Fsigns", "GET /datasets/by-name/road%2Fsigns",
    ]  # fmt: skip


@pytest.mark.parametrize("first", [404, 422])
def test_not_found_both_ways_is_not_found(first: int) -> None:
    """Whatever the wrong address answered, a name that exists nowhere gives NotFoundError after two requests."""
    server = api({"GET /datasets/": ok({"data": []}), "GET /datasets/x": refused(first)})
    with pytest.raises(NotFoundError):
        server.provider.datasets.get("x")
    assert len(server.asked) == 3


def test_other_failures_are_not_tried_the_other_way() -> None:
    """A refused key says nothing about addresses."""
    server = api({"GET /datasets/": ok({"data": []}), "GET /datasets/x": refused(403)})
    with pytest.raises(ProviderError):
        server.provider.datasets.get("x")
    assert len(server.asked) == 2


def test_a_body_with_both_envelopes_is_read() -> None:
    """Servers that answer both clients at once are understood."""
    row = run_row()
    assert api({f"GET /training/{HANDLE.run_id}": ok({"data": row, "training_run": row})}).provider.get_run(HANDLE)


@pytest.mark.parametrize("payload", [None, [], "text", 5, {}, {"run": {}}, {"data": None}, {"data": []}, {"data": {}}])
def test_a_success_with_the_wrong_body_is_unexpected(payload: Any) -> None:
    """A 200 without the object is an unexpected response naming what is missing, never a crash or an empty run."""
    with pytest.raises(UnexpectedResponseError, match=r"training\.get"):
        api({f"GET /training/{HANDLE.run_id}": ok(payload)}).provider.get_run(HANDLE)
