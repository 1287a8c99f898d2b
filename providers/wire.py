"""How vendors' JSON is read: tolerant of anything added or decorative, strict about identity and money."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from pydantic import WrapValidator as Wrap

from providers.calls import ApiReply
from providers.figures import MOST


def _or_none(value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except ValidationError:
        return None


def _aware(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:  # a moment at either end of the calendar has no counterpart in UTC
        return None


def _as_object(value: Any) -> Any:
    return value if isinstance(value, dict) else {}


def names_of(value: Any) -> tuple[str, ...]:
    """Return the names in a list of names or of objects with a ``name``."""
    entries = value if isinstance(value, list | tuple) else []
    names = (entry.get("name") if isinstance(entry, dict) else entry for entry in entries)
    return tuple(name for name in names if isinstance(name, str))


def _as_objects(value: Any) -> Any:
    return tuple(entry for entry in value if isinstance(entry, dict)) if isinstance(value, list) else ()


# Strict: what an answer is useless without, in bounds that can be counted with and stored.
Amount = Annotated[int, Field(ge=-MOST, le=MOST)]
Figure = Annotated[float, Field(ge=-MOST, le=MOST)]
# Decoration: a value we cannot read is as good as none, and never a reason to lose sight of a paid run.
Text = Annotated[str | None, Wrap(_or_none)]
Whole = Annotated[Amount | None, Wrap(_or_none)]
Real = Annotated[Figure | None, Wrap(_or_none)]
Flag = Annotated[bool | None, Wrap(_or_none)]
Moment = Annotated[datetime | None, AfterValidator(_aware), Wrap(_or_none)]
JsonObject = Annotated[dict[str, JsonValue], BeforeValidator(_as_object)]
Objects = Annotated[tuple[dict[str, JsonValue], ...], BeforeValidator(_as_objects)]
Names = Annotated[tuple[str, ...], BeforeValidator(names_of)]


class Wire(BaseModel):
    """Base of wire models; validation errors do not quote what was sent, which may hold a signed URL."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, frozen=True)


class MintWire(Wire):
    """A signed URL."""

    download_url: str = Field(repr=False)


Row = TypeVar("Row", bound=Wire)


def read_wire(reply: ApiReply, content: JsonValue, wire: type[Row]) -> Row:
    """Read an object.

    Raises:
        UnexpectedResponseError: A field is missing or of another kind; the message names it and quotes nothing.
    """
    try:
        return wire.model_validate(content)
    except ValidationError as exc:
        problems = (f"{'.'.join(map(str, e['loc'])) or 'body'} ({e['type']})" for e in exc.errors(include_input=False))
        raise reply.unreadable(", ".join(problems)) from exc
