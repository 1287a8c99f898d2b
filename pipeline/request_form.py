"""The JSON schema of requests: what Prefect's run forms show, and what its server accepts.

Prefect has two forms, and one of them knows no ``oneOf``: a choice has to be an ``anyOf``. Its server answers a value
that fits no member of an ``anyOf`` with a sentence about the whole value. So the members say what a form shows, and the
definitions of the requests, with every limit, are asked for by ``if``, which no form looks at: what is wrong is then
said of the field of the chosen provider.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

FIRST = ("dataset", "provider", "sandbox", "credentials")
"""What every form begins with."""
_LIMITS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern"}
_CHECKED_ONLY = {*_LIMITS, "additionalProperties", "const"}


def arrange(definition: JsonSchemaValue, shared: Container[str]) -> None:
    """Put the fields of a request's schema into the order of the form: its own ones before the ``shared`` ones."""
    properties: dict[str, Any] = definition["properties"]
    first = [name for name in FIRST if name in properties]
    own = [name for name in properties if name not in shared and name not in FIRST]
    order = [*first, *own, *(name for name in properties if name not in {*first, *own})]
    # The position as well: a server on PostgreSQL does not keep the order of an object's keys.
    definition["properties"] = {name: {**properties[name], "position": at} for at, name in enumerate(order)}


class RunForm:
    """Marks a union of requests whose first member is meant where no provider is named."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return a choice of forms, and the definition that each provider's request has to meet."""
        members = handler(schema)["oneOf"]
        definitions = [handler.resolve_ref_schema(member) for member in members]
        names = [definition["properties"]["provider"]["const"] for definition in definitions]
        checked: JsonSchemaValue = {"properties": {"provider": {"enum": names}}}
        for name, member in reversed(list(zip(names, members, strict=True))):
            # A request without a provider meets the first of these.
            checked = {"if": {"properties": {"provider": {"const": name}}}, "then": member, "else": checked}
        return {"anyOf": [_shown(definition, handler) for definition in definitions], **checked}


def _shown(schema: JsonSchemaValue, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Return what a form shows of a schema, with the limits of numbers in words."""
    found = handler.resolve_ref_schema(schema)
    if found is not schema:  # what stands beside a reference is about its use
        found = {**found, **{key: value for key, value in schema.items() if key != "$ref"}}
    shown = {key: value for key, value in found.items() if key not in _CHECKED_ONLY}
    if "const" in found:
        shown["enum"] = [found["const"]]  # chosen from a list of one, not typed
    if "properties" in found:
        shown["properties"] = {name: _shown(field, handler) for name, field in found["properties"].items()}
    if "items" in found:
        shown["items"] = _shown(found["items"], handler)
    if "anyOf" in found:
        shown["anyOf"] = [_shown(choice, handler) for choice in found["anyOf"]]
    limits = next((said for one in (found, *found.get("anyOf", ())) if (said := _limits(one))), "")
    if limits and "description" in found:
        shown["description"] = f"{found['description']} Allowed: {limits}."
    return shown


def _limits(schema: JsonSchemaValue) -> str:
    """Return the bounds of a number in words; none where there are none."""
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return ", ".join(f"{word} {schema[key]:,}" for key, word in words.items() if key in schema)
