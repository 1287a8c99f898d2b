"""Tests of telling a hosted account from the sandbox."""

from __future__ import annotations

import pytest

from pipeline.errors import ConfigurationError
from providers.sides import check_side


@pytest.mark.parametrize("sandbox", [True, False])
def test_the_expected_side_is_accepted(sandbox: bool) -> None:
    """A rehearsal that reaches the sandbox, and a hosted run that reaches the account, go on."""
    check_side(from_sandbox=sandbox, expected=sandbox, variable="VENDOR_BASE_URL")


@pytest.mark.parametrize(
    ("from_sandbox", "variable"), [(True, "VENDOR_BASE_URL"), (False, "TRAIN_PIPELINE_SANDBOX_URL")]
)
def test_the_other_side_is_refused_by_the_name_of_the_variable(from_sandbox: bool, variable: str) -> None:
    """The variable whose address leads to the wrong side is named in field and sentence."""
    with pytest.raises(ConfigurationError, match=variable) as caught:
        check_side(from_sandbox=from_sandbox, expected=not from_sandbox, variable="VENDOR_BASE_URL")
    assert caught.value.context.field == variable
