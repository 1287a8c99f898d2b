"""Which side answers: a hosted account, or the sandbox that speaks its API."""

from __future__ import annotations

from pipeline.errors import ConfigurationError, ErrorContext

SANDBOX_VARIABLE = "TRAIN_PIPELINE_SANDBOX_URL"
"""The variable that names a sandbox."""


def check_side(*, from_sandbox: bool, expected: bool, variable: str) -> None:
    """Refuse a rehearsal that would be paid for, and a model of the sandbox that would pass for a hosted one.

    ``variable`` is the one that names the hosted API's address.

    Raises:
        ConfigurationError: Naming the variable whose address leads to the wrong side.
    """
    if from_sandbox and not expected:
        message = f"{variable} leads to a sandbox: use --sandbox to rehearse, or unset it."
        raise ConfigurationError(message, ErrorContext(operation="account.check", field=variable))
    if expected and not from_sandbox:
        message = f"{SANDBOX_VARIABLE} does not lead to a sandbox: a rehearsal must not reach a hosted account."
        raise ConfigurationError(message, ErrorContext(operation="account.check", field=SANDBOX_VARIABLE))
