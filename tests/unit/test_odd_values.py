"""Figures and texts that no server should send: read, or said to be unreadable, and never a bare exception."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import httpx
import pytest
from pydantic import AliasChoices, BaseModel, ValidationError

import providers
from pipeline.errors import InsufficientCreditsError, RateLimitError
from pipeline.models import RunStatus, TrainingRun, Unit
from pipeline.provider import ResumePoint
from providers.figures import MOST, figure_of
from providers.pictograph.wire import read_classes
from providers.replicate.logs import read_progress
from providers.replicate.rates import Rates
from providers.retry import parse_retry_after
from providers.storage import SignedStorage
from providers.wire import Wire
from tests.unit.http_double import answering
from tests.unit.scripted_replicate import HANDLE, api, problem

DIGITS = "9" * 5_000
ODD: list[Any] = [
    None, True, -1, 2**63, 10**400, -(10**400), 1e308, float("inf"), float("-inf"), float("nan"),
    "", "nan", "1e999", "\x00", DIGITS, [], [[]], [None], {}, {"": None}, {DIGITS: "a"},
    {"classes": {DIGITS: "a"}}, {"predict_time": 10**400}, {"predict_time": float("nan")}, {"predict_time": "1"},
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "99999-01-01T00:00:00Z", 10**18, -(10**18),
    "ffffffff-ffff-7fff-bfff-ffffffffffff", f" 10%|#   | {DIGITS}/{DIGITS} [00:01<{DIGITS}:00:01]",
]  # fmt: skip
TOLD = {"name": "n", "dataset": "d", "unit": Unit.MICRO_USD}
"""What conversions are told besides the answer."""


def _wires(of: type[Wire] = Wire) -> list[type[Wire]]:
    for module in pkgutil.walk_packages(providers.__path__, "providers."):
        importlib.import_module(module.name)
    ours = [wire for wire in of.__subclasses__() if wire.__module__.startswith("providers.")]
    return sorted(
        {*ours, *(far for wire in ours for far in _wires(wire))}, key=lambda wire: (wire.__module__, str(wire))
    )


def _key(wire: type[Wire], name: str) -> str:
    alias = wire.model_fields[name].validation_alias
    return str(alias.choices[0]) if isinstance(alias, AliasChoices) else name


def _least(wire: type[Wire]) -> dict[str, Any]:
    """Return the least answer that a wire model reads."""
    made: dict[str, Any] = {}
    for name, field in wire.model_fields.items():
        kind = field.annotation
        if field.is_required() and inspect.isclass(kind) and issubclass(kind, Wire):
            made[_key(wire, name)] = _least(kind)
        elif field.is_required():
            made[_key(wire, name)] = {str: "x", float: 1.0, int: 1, bool: True}.get(kind, [])  # type: ignore[call-overload]
    return made


def _use(row: Wire) -> None:
    """Convert a row and look at everything that it shows, as whoever stores it would."""
    for name, member in inspect.getmembers(type(row)):
        if isinstance(member, property) and type(row).__module__ == member.fget.__module__:  # type: ignore[union-attr]
            getattr(row, name)
    convert = getattr(row, "to_value", None)
    if convert is not None:
        value = convert(**{name: TOLD[name] for name in inspect.signature(convert).parameters if name in TOLD})
        if isinstance(value, BaseModel):
            value.model_dump_json()


@pytest.mark.parametrize("wire", _wires(), ids=lambda wire: f"{wire.__module__}.{wire.__name__}")
def test_no_value_of_a_server_is_too_odd_for_a_wire_model(wire: type[Wire]) -> None:
    """Each field of each answer may be anything: it is read, or the answer is refused in the one way there is."""
    least = _least(wire)
    _use(wire.model_validate(least))
    for name in wire.model_fields:
        for odd in ODD:
            try:
                row = wire.model_validate({**least, _key(wire, name): odd})
            except ValidationError:
                continue
            _use(row)


def test_what_can_be_counted_with() -> None:
    """Whole and broken numbers up to the bound, and nothing else."""
    assert [figure_of(value) for value in (0, 1.5, -3, MOST)] == [0.0, 1.5, -3.0, float(MOST)]
    refused = [True, "1", None, [], MOST + 1, 10**400, -(10**400), float("inf"), float("nan")]
    assert [figure_of(value) for value in refused] == [None] * len(refused)


@pytest.mark.parametrize(
    "odd", [10**400, 1e308, float("inf"), float("nan"), 9e15], ids=["whole", "float", "inf", "nan", "long"]
)
def test_seconds_that_cannot_be_are_no_bill(odd: float) -> None:
    """A bill that no database has room for is none."""
    run = TrainingRun(
        handle=HANDLE, status=RunStatus.COMPLETED, provider_status="succeeded", metrics={"predict_time": odd}
    )
    assert Rates().charge(run, "gpu-h100-8x") is None


@pytest.mark.parametrize(
    "header",
    [
        "Mon, 01 Jan 2024 00:00:00 +99999999999999",
        "Mon, 01 Jan 2024 99999999999:00:00 GMT",
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 -9999",
        DIGITS,
    ],
)
def test_a_delay_that_no_calendar_has_is_none(header: str) -> None:
    """As good as no header, and no other exception than the answer's own."""
    assert parse_retry_after(header, 1_800_000_000.0) is None
    with pytest.raises(RateLimitError) as caught:
        answering(429, headers={"Retry-After": header}).call()
    assert caught.value.context.retry_after_s is None


@pytest.mark.parametrize("odd", ["1e999", "NaN", "1" + "0" * 400], ids=["inf", "nan", "whole"])
def test_a_delay_in_a_body_that_cannot_be_is_none(odd: str) -> None:
    """A throttle of Replicate's may name it in a field."""
    answer = problem(429)
    answer = httpx.Response(429, text=answer.text.replace('"no"', f'"no", "retry_after": {odd}'))
    with pytest.raises(RateLimitError) as caught:
        api({"GET /v1/account": answer}).provider.accounts.get()
    assert caught.value.context.retry_after_s is None


@pytest.mark.parametrize("odd", ["1e999", "NaN", "1" + "0" * 400], ids=["inf", "nan", "whole"])
def test_a_shortage_that_cannot_be_is_not_told(odd: str) -> None:
    """The refusal keeps its kind; the figure is left out of its sentence."""
    with pytest.raises(InsufficientCreditsError) as caught:
        answering(402, text=f'{{"detail": "no", "required_micro_usd": {odd}}}').call()
    assert "required" not in caught.value.message


@pytest.mark.parametrize(
    "bar", [f" 10%|# | {DIGITS}/{DIGITS} [00:01<00:09]", f" 10%|# | 1/10 [00:01<{'9' * 400}:00:01]"]
)
def test_a_bar_of_endless_digits_is_none_or_has_no_end(bar: str) -> None:
    """What a trainer prints is anything."""
    progress = read_progress(bar)
    assert progress is None or progress.eta_s is None


def test_a_label_of_endless_digits_is_no_label() -> None:
    """The others keep their order."""
    assert read_classes({"1": "b", DIGITS: "z", "0": "a"}) == ("a", "b")


def test_a_size_of_endless_digits_is_no_size() -> None:
    """A file whose size cannot be read is read to its end, and from its beginning."""

    def answer(request: httpx.Request) -> httpx.Response:
        part = {"Content-Range": f"bytes 1-{DIGITS}/{DIGITS}"} if "Range" in request.headers else {}
        headers = {"Content-Length": DIGITS, **part}
        return httpx.Response(206 if part else 200, stream=httpx.ByteStream(b"abc"), headers=headers)

    storage = SignedStorage(require_https=True, timeout_s=1.0, transport=httpx.MockTransport(answer))
    with storage.open(lambda: "https://store.example/x", "x", ResumePoint(1, None)) as stream:
        assert (stream.facts.offset, stream.facts.size_bytes) == (0, None)
        assert b"".join(stream.chunks) == b"abc"
