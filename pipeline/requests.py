"""What a person, a schedule or the run form asks for, as far as it is the same at every provider."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, JsonValue, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipeline.addresses import hides, without_secrets
from pipeline.errors import ConfigurationError, ErrorContext
from pipeline.request_form import arrange
from pipeline.value import Value

ProviderName = Literal["pictograph", "replicate", "bluesight", "photogpt"]
"""The hosted providers."""

PipelineType = Literal["yolox", "detectron2", "sm_pytorch", "classification", "rfdetr_detection", "rfdetr_segmentation"]
"""The training pipelines a request can name (Source: seed document "Training", checked 2026-11-20)."""
_Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TrainConfig(Value, title="Config"):
    """Hyperparameters; a field left empty takes the provider's default."""

    epochs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Passes over the training images."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Images per optimisation step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] | None = None
    """Peak learning rate."""
    image_size: Annotated[int, Field(ge=32, le=4096)] | None = None
    """Side length the images are resized to, in pixels."""
    extra: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Further keys, handed to the provider unchanged."""

    @field_validator("extra")
    @classmethod
    def _in_json(cls, extra: dict[str, bool | int | float | str]) -> dict[str, bool | int | float | str]:
        require_finite(extra)
        return extra

    @property
    def sides(self) -> tuple[int, int] | None:
        """Height and width the images are resized to, where both are named."""
        named = self.to_wire()
        height, width = (named.get(key, named.get("image_size")) for key in ("image_height", "image_width"))
        return (height, width) if type(height) is int and type(width) is int else None

    def shown(self) -> Self:
        """Return the hyperparameters as reports may show them."""
        hidden = {name: without_secrets(value) for name, value in self.extra.items() if hides(value)}
        return self.model_copy(update={"extra": {**self.extra, **hidden}}) if hidden else self

    def to_wire(self) -> dict[str, JsonValue]:
        """Return the keys that were set, merged with ``extra``."""
        known = self.model_dump(exclude_none=True, exclude={"extra"})
        return {**self.extra, **known}


class TrainRequest(Value):
    """What is asked of every provider; each one's own request adds what it can be asked for."""

    DECIDING: ClassVar[frozenset[str]] = frozenset({"provider", "sandbox", "dataset"})
    """The fields that decide what is trained and where; the others are limits, patience and names."""

    KIND_FIELD: ClassVar[str] = "pipeline"
    """The field that ``kind`` comes from, for messages."""
    NAMING: ClassVar[frozenset[str]] = frozenset({"dataset"})
    """The fields that a command must repeat to come back to the same training."""

    dataset: Annotated[str, Field(min_length=1, max_length=200)]
    """Name of the data set to train on."""
    provider: ProviderName
    """The hosted provider that trains."""
    sandbox: bool = False
    """Rehearse against the local sandbox: no account, no money, small real models marked as rehearsal."""
    credentials: str | None = None
    """Name of the Prefect credentials block that holds the API key; empty reads the environment."""
    name: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """Readable part of the run's name; empty derives it from data set and pipeline."""
    budget_usd: _Amount | None = None
    """Stop before spending when the price is above this many US dollars (accounts billed in dollars)."""
    budget_credits: Annotated[int, Field(gt=0)] | None = None
    """Stop before spending when the price is above this many credits (accounts billed in credits)."""
    wait: Literal["hold", "defer", "none"] = "hold"
    """Watch the run to its end (hold), come back to it from time to time without keeping a process (defer; needs a
    deployment), or leave it to itself once it has been created (none)."""
    poll_interval_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Fixed seconds between looks; empty follows the run's own forecast."""
    deadline_s: Annotated[float, Field(gt=0, le=604_800)] | None = None
    """Seconds to watch before giving up; empty takes the provider's figure."""
    on_deadline: Literal["keep", "cancel"] = "keep"
    """At the deadline: keep the paid run going so that it can be collected later, or cancel it."""
    cancel_on_interrupt: bool = False
    """When this process is interrupted (Ctrl-C, SIGTERM): cancel the paid run instead of leaving it to a rerun."""
    operation: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Continue the operation of this id, as printed by a run that stopped; empty continues an open one like this
    request, or begins a new one."""
    if_changed: bool = False
    """Train only when images, labels, classes or hyperparameters differ from those of the last accepted model."""
    approve_above: _Amount | None = None
    """Ask a person before starting a training priced above this, in the account's unit (US dollars or credits)."""
    attempt: Annotated[int, Field(ge=1)] | None = None
    """With ``operation``: go on with this attempt and start no later one. The sweep asks so; people need not."""
    on_open_run: Literal["adopt", "new", "fail"] = "adopt"
    """When the same training is open already: go on with it, start a second one, or stop."""
    adopt: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Take over the run of this id, which was started by hand at the provider."""
    samples: Annotated[int, Field(ge=1, le=64)] = 6
    """Real samples of the training data the model must handle before it is accepted."""
    min_agreement: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Least share of the labels on those samples that the model must find."""
    max_model_bytes: Annotated[int, Field(ge=1)] = 4 * 1024**3
    """Refuse a model file larger than this."""
    max_export_bytes: Annotated[int, Field(ge=1)] = 64 * 1024**3
    """Refuse an export archive larger than this."""
    output_dir: Path = Path("runs")
    """Folder under which the run's folder is made."""

    @property
    def kind(self) -> str:
        """What sort of model is made, in the provider's word: with provider and data it names a job."""
        raise NotImplementedError

    @property
    def what(self) -> str:
        """What is trained, and on what tier where one was chosen, for people."""
        return self.kind if self.tier is None else f"{self.kind} on {self.tier}"

    @property
    def data_name(self) -> str:
        """What the training data is called in names of runs, artifacts and reports."""
        return self.dataset

    @property
    def tier(self) -> str | None:
        """GPU tier or hardware asked for; none where nothing can be chosen."""
        return None

    @property
    def config_asked(self) -> TrainConfig:
        """Hyperparameters; empty where none can be chosen."""
        return TrainConfig()

    @property
    def further_ingredients(self) -> dict[str, JsonValue]:
        """What else the model is made of, besides data, kind and hyperparameters."""
        return {}

    @property
    def expected_minutes(self) -> int | None:
        """GPU minutes the training is expected to take, where somebody has named them."""
        return None

    @property
    def export_asked(self) -> str | None:
        """Name of an existing export to train on."""
        return None

    @property
    def wanted_classes(self) -> tuple[str, ...]:
        """Classes the data was to be restricted to; empty means all."""
        return ()

    @property
    def repeats_unknown(self) -> bool:
        """True when a create whose outcome cannot be learned is to be sent again, at the risk of a second run."""
        return False

    @property
    def few_images_remedy(self) -> str:
        """What to do about training data of too few images."""
        return "add labelled images"

    @property
    def data_remedy(self) -> str:
        """What to do about training data that gives no model, in words that end a sentence."""
        return f"correct {self.dataset!r} and run again"

    def shown(self) -> Self:
        """Return the request as reports may show it."""
        return self

    def check(self) -> None:
        """Refuse fields that contradict each other.

        Raises:
            ConfigurationError: They do; the error names one.
        """
        if self.attempt is not None and self.operation is None:
            raise refused("attempt", "attempt counts the attempts at an operation; name the operation as well")
        if self.operation is not None and self.adopt is not None:
            message = "operation and adopt are both set; keep the one that names what to come back to"
            raise refused("adopt", message)
        if self.budget_usd is not None and self.budget_credits is not None:
            message = "budget_usd and budget_credits are both set; keep the one in the unit your account is billed in"
            raise refused("budget_usd", message)

    def options(self) -> list[str]:
        """Return the command line's options that say what is trained, as far as they differ from what is usual.

        They are shown and logged: of a mapping, what holds an address with a user or a query is left out.
        """
        options = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, dict):
                value = {key: entry for key, entry in value.items() if not hides(entry)}
            if name in type(self).NAMING and value != field.get_default(call_default_factory=True):
                options += [f"--{name.replace('_', '-')}", json.dumps(value) if isinstance(value, dict) else str(value)]
        return options

    @property
    def needs_weights(self) -> bool:
        """True when a model without a file that runs here is of no use."""
        return False

    def tries_here(self, *, has_weights: bool) -> bool:
        """Tell whether the model is to run on this machine."""
        return has_weights

    def tries_there(self, *, has_weights: bool) -> bool:
        """Tell whether the model is to be asked at the provider."""
        return not has_weights

    @property
    def tries(self) -> bool:
        """True when the model is to be tried wherever that can be done."""
        return self.tries_here(has_weights=True) or self.tries_there(has_weights=False)

    def smaller(self, tiers: tuple[str, ...], used: str | None) -> Self | None:
        """Return what to ask for after a run that did not fit into its GPU's memory; none when nothing is left to try.

        ``tiers`` are the provider's, the smallest first; ``used`` is the one that was too small, where it is known.
        """
        _ = tiers, used
        return None

    def as_attempted(self, attempted: TrainRequest) -> Self:
        """Return the request as an attempt that is open carried it out: on its tier, with its hyperparameters."""
        _ = attempted
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Put what a provider can be asked for before limits and patience: the run form shows fields in this order."""
        made = handler(schema)
        arrange(handler.resolve_ref_schema(made), TrainRequest.model_fields)
        return made


def require_finite(value: object) -> None:
    """Refuse a number that JSON has no word for, however deep it lies.

    Raises:
        ValueError: There is one.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is a number that cannot be sent; give a finite one")
    if isinstance(value, (list, dict)):
        for entry in value.values() if isinstance(value, dict) else value:
            require_finite(entry)


def refused(field: str, message: str) -> ConfigurationError:
    """Return the error that names a field of the request."""
    return ConfigurationError(message, ErrorContext(field=field))


class SweepRequest(Value):
    """What a sweep looks after, and what it may do about what it finds."""

    provider: ProviderName | None = None
    """The provider whose account is swept; empty sweeps every account that has something open or whose key is set."""
    sandbox: bool = False
    """Sweep the local sandbox instead of the hosted accounts."""
    credentials: str | None = None
    """With ``provider``: name of the Prefect credentials block that holds the API key; empty reads the environment."""
    flow_run: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """Look after what this flow run started and nothing else, at whatever account: its id, or prefect.flow-run.ID."""
    flow_gone: Literal["notify", "adopt", "cancel"] = "adopt"
    """A training that goes on although its flow run failed, crashed or is gone: say so, go on with it, or end it."""
    uncollected: Literal["notify", "adopt"] = "adopt"
    """A training that completed and whose model nobody has judged: say so, or go on with it."""
    past_deadline: Literal["notify", "adopt", "cancel"] = "notify"
    """A training past its deadline that nobody watches; it is cancelled in any case where its own request says so."""
    over_budget: Literal["notify", "cancel"] = "cancel"
    """A training that has cost more than its request's cap: say so, or end it."""
    cancel_unconfirmed: Literal["notify", "cancel"] = "cancel"
    """A training somebody wanted ended that is not seen to have ended: say so, or ask the provider again."""
    unknown_runs: Literal["notify", "cancel"] = "notify"
    """Trainings of the account that the journal does not know; cancel ends what may be somebody else's."""
