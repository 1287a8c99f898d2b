"""What every value that can be chosen for an account is made of."""

from pydantic import BaseModel, ConfigDict


class Setting(BaseModel):
    """Frozen value that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
