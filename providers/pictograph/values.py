"""What Pictograph's API says about money, data sets and models, as values; the pipeline's own values cover the rest."""

from __future__ import annotations

from pydantic import AwareDatetime, Field, JsonValue

from pipeline.models import Money, Unit
from pipeline.provider_requests import GpuType
from pipeline.requests import PipelineType
from pipeline.value import Value


class Balance(Value):
    """What an account can spend."""

    unit: Unit | None
    """What this account is billed in; None when the answer named no amount at all."""
    spendable: Money | None
    """All that is left, included allowance and budget together."""
    included_remaining: Money | None = None
    """Left of the plan's allowance."""
    budget_remaining: Money | None = None
    """Left of the budget on top of the allowance."""
    resets_at: AwareDatetime | None = None
    """When the allowance is renewed."""


class LedgerEntry(Value):
    """One line of the account's history."""

    id: str
    """The provider's id."""
    operation: str
    """What it was for."""
    amount: Money
    """Negative: spent; positive: refunded or topped up."""
    created_at: AwareDatetime | None = None
    """When it was booked."""
    description: str | None = None
    """The provider's words."""
    metadata: dict[str, JsonValue] = Field(default_factory=dict)
    """Further facts, such as the run it belongs to."""


class PriceEstimate(Value):
    """A unit price times a quantity."""

    operation: str
    """What is priced."""
    per_unit: Money
    """Price of one unit."""
    quantity: float
    """Units."""
    total: Money
    """Price of all of them, never under the provider's minimum."""
    remaining: Money | None
    """What the account can still spend."""
    sufficient: bool
    """Whether that covers the total, at the time of asking."""


class Blocker(Value):
    """Why a run cannot be started now."""

    code: str
    """Short code."""
    message: str
    """The provider's words."""


class TrainingQuote(Value):
    """The price of one particular training, and whether it could start."""

    gpu: str
    """Concrete GPU tier."""
    minutes: float
    """GPU minutes predicted."""
    per_minute: Money
    """Price of one."""
    total: Money
    """Price of all."""
    budget_remaining: Money | None
    """What the account can still spend."""
    covers_estimate: bool
    """Whether that covers the total."""
    can_start: bool
    """Whether a create would be accepted now."""
    fits: bool | None = None
    """Whether the work fits into the GPU's memory."""
    recommended_gpu: str | None = None
    """Tier the provider would take."""
    image_count: int | None = None
    """Images in the export."""
    deleted_images: int = 0
    """Images deleted from the data set since the export was made."""
    blocking: tuple[Blocker, ...] = ()
    """Why it cannot start."""


class Dataset(Value):
    """A data set."""

    id: str
    """The provider's id."""
    name: str
    """Its name."""
    image_count: int | None = None
    """Images in all."""
    completed_image_count: int | None = None
    """Images whose review is complete."""
    classes: tuple[str, ...] = ()
    """Names of its classes."""


class TrainingSpec(Value):
    """Everything that decides what one run trains."""

    dataset: str
    """Name of the data set."""
    export: str
    """Name of the export."""
    pipeline: PipelineType
    """Training pipeline."""
    gpu: GpuType = "a10g"
    """GPU tier."""
    config: dict[str, JsonValue] = Field(default_factory=dict)
    """Hyperparameters in the provider's words."""


class BulkResult(Value):
    """What one call did to many objects."""

    succeeded: tuple[str, ...]
    """Ids it worked on."""
    not_found: tuple[str, ...]
    """Ids that are unknown, or in a state that forbids it."""


class ModelRecord(Value):
    """A model as listed."""

    id: str
    """The provider's id."""
    name: str
    """Its name."""
    status: str
    """``ready`` means downloadable."""
    model_type: str
    """The provider's word for what it does."""
    architecture: str | None = None
    """Network family."""
    version: str | None = None
    """Version label."""
    classes: tuple[str, ...] = ()
    """Class names in label order."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """Held-out figures."""
    created_at: AwareDatetime | None = None
    """When it was made."""


class ModelVersion(Value):
    """One version of a model."""

    id: str
    """The provider's id."""
    number: int | None = None
    """Counts from 1."""
    label: str | None = None
    """Its name for people."""
    status: str = ""
    """The provider's own word."""
    is_current: bool = False
    """Whether a download without a version gives this one."""
    precision: str | None = None
    """``fp32`` or ``fp16``."""


class ModelFile(Value):
    """One file of a model version."""

    version_id: str
    """The version it belongs to."""
    name: str
    """File name."""
    kind: str
    """``weights``, ``config``, ``license`` or ``readme``."""
    format: str | None = None
    """``onnx`` and others, for weights."""
    size_bytes: int | None = None
    """Its size."""
