"""What each provider can be asked for; a request is told apart by its ``provider``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, TypeAdapter

from pipeline.local_requests import BluesightRequest, PhotogptRequest, ReplicateRequest
from pipeline.request_form import RunForm
from pipeline.requests import PipelineType, TrainConfig, TrainRequest, refused

GpuType = Literal["a10g", "a100", "h100", "auto"]
"""GPU tiers a request can name; ``auto`` lets the provider choose where its API offers that."""


class PictographRequest(TrainRequest, title="Pictograph"):
    """Train on a data set that is kept at Pictograph, with one of its pipelines."""

    DECIDING: ClassVar[frozenset[str]] = TrainRequest.DECIDING | {
        "export",
        "pipeline",
        "gpu",
        "config",
        "class_filter",
        "status_filter",
    }

    NAMING: ClassVar[frozenset[str]] = frozenset({"dataset", "pipeline"})

    provider: Literal["pictograph"] = "pictograph"
    """The hosted provider that trains."""
    export: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """Name of an existing export; empty makes a fresh export of the data set for this run."""
    pipeline: PipelineType = "yolox"
    """The provider's training pipeline; it decides what the model outputs."""
    gpu: GpuType = "a10g"
    """GPU tier to train on."""
    config: TrainConfig = TrainConfig()
    """Hyperparameters."""
    class_filter: tuple[str, ...] = ()
    """Train on these classes only; empty means all. Applies to a fresh export."""
    status_filter: Literal["new", "annotate", "review", "complete"] | None = "complete"
    """Take only images in this review stage; empty takes all. Applies to a fresh export."""
    gpu_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = None
    """GPU minutes to price where the provider does not predict them itself; a budget needs them there."""
    on_out_of_memory: Literal["fail", "larger_gpu", "half_batch"] = "fail"
    """When the run does not fit into the GPU's memory: fail, or try again on the next tier or with half the batch."""

    @property
    def kind(self) -> str:
        """The pipeline."""
        return self.pipeline

    @property
    def tier(self) -> str:
        """The GPU tier."""
        return self.gpu

    @property
    def config_asked(self) -> TrainConfig:
        """The hyperparameters."""
        return self.config

    def shown(self) -> Self:
        """Return the request with its hyperparameters as reports may show them."""
        return self.model_copy(update={"config": self.config.shown()})

    @property
    def expected_minutes(self) -> int | None:
        """GPU minutes, where somebody has named them."""
        return self.gpu_minutes

    @property
    def export_asked(self) -> str | None:
        """The existing export to train on."""
        return self.export

    @property
    def wanted_classes(self) -> tuple[str, ...]:
        """The class filter."""
        return self.class_filter

    @property
    def few_images_remedy(self) -> str:
        """What to do about an export of too few images."""
        return f"label more images, or relax status_filter={self.status_filter!r}"

    @property
    def data_remedy(self) -> str:
        """What to do about an export that gives no model."""
        if self.export:
            return f"make a new export of {self.dataset!r} that holds labelled images"
        return (
            f"nothing in {self.dataset!r} passes status_filter={self.status_filter!r} and "
            f"class_filter={list(self.class_filter)!r}; relax them or label images"
        )

    def check(self) -> None:
        """Refuse fields that contradict each other.

        Raises:
            ConfigurationError: They do; the error names one.
        """
        super().check()
        if self.on_out_of_memory == "half_batch" and self.config.batch_size is None:
            message = "on_out_of_memory='half_batch' needs to know what to halve; set batch_size"
            raise refused("batch_size", message)
        for field in ("class_filter", "status_filter"):
            value = getattr(self, field)
            # Not ``model_fields_set``: a request read back from storage has every field set.
            if self.export and value and value != type(self).model_fields[field].default:
                raise refused(
                    field,
                    f"{field}={value!r} applies to a fresh export only, but export={self.export!r} names an existing "
                    f"one; leave one of them out",
                )

    def smaller(self, tiers: tuple[str, ...], used: str | None) -> Self | None:
        """Return the request on the next tier, or with half the batch, as ``on_out_of_memory`` says."""
        if self.on_out_of_memory == "larger_gpu":
            known, at = [tier for tier in tiers if tier != "auto"], used or self.gpu
            larger = known[known.index(at) + 1 :] if at in known else []
            return self.model_copy(update={"gpu": larger[0]}) if larger else None
        batch = self.config.batch_size
        if self.on_out_of_memory == "half_batch" and batch is not None and batch > 1:
            return self.model_copy(update={"config": self.config.model_copy(update={"batch_size": batch // 2})})
        return None

    def as_attempted(self, attempted: TrainRequest) -> Self:
        """Return the request as an attempt that is open carried it out: on its tier, with its hyperparameters."""
        return self.model_copy(update={"gpu": attempted.tier, "config": attempted.config_asked})


def _provider_of(value: Any) -> str:
    given = value.get("provider", "pictograph") if isinstance(value, dict) else getattr(value, "provider", "pictograph")
    return str(given)


AnyTrainRequest = Annotated[
    Annotated[PictographRequest, Tag("pictograph")]
    | Annotated[ReplicateRequest, Tag("replicate")]
    | Annotated[BluesightRequest, Tag("bluesight")]
    | Annotated[PhotogptRequest, Tag("photogpt")],
    Discriminator(_provider_of),
    RunForm(),
]
"""A request to any provider; one that names none is meant for Pictograph."""

REQUESTS: dict[str, type[TrainRequest]] = {
    "pictograph": PictographRequest,
    "replicate": ReplicateRequest,
    "bluesight": BluesightRequest,
    "photogpt": PhotogptRequest,
}
"""Each provider's request."""

_reader: TypeAdapter[Any] = TypeAdapter(AnyTrainRequest)


def read_request(value: object) -> TrainRequest:
    """Return the request in a stored or submitted value.

    Raises:
        pydantic.ValidationError: It is none.
    """
    request: TrainRequest = _reader.validate_python(value)
    return request
