"""Requests of the providers whose training data lies on this machine until it is sent."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, JsonValue, field_validator

from pipeline.addresses import hides, names_user, without_secrets
from pipeline.requests import PipelineType, TrainConfig, TrainRequest, refused, require_finite

_LOCAL_PATH = Annotated[str, Field(min_length=1, max_length=1000)]
_MODEL = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$", max_length=200)]


class _LocalData(TrainRequest):
    """A request whose training data lies on this machine."""

    dataset: _LOCAL_PATH

    @field_validator("dataset", "validation", check_fields=False)
    @classmethod
    def _at_home(cls, path: str | None) -> str | None:
        """Read ``~`` once, so that every stage means the same file."""
        if path is None or not path.startswith("~"):
            return path
        try:
            return str(Path(path).expanduser())
        except RuntimeError as error:
            raise ValueError("nobody knows whose home that is on this machine; write the whole path") from error

    @property
    def further_ingredients(self) -> dict[str, JsonValue]:
        """Whatever decides the model and is neither its data nor where it is made."""
        known = {"provider", "sandbox", "dataset", "dataset_url"}
        found: dict[str, JsonValue] = self.model_dump(mode="json", include=set(self.DECIDING) - known)
        return found

    @property
    def data_name(self) -> str:
        """The file's or folder's own name, without its extension."""
        return PurePath(self.dataset).stem or self.dataset


class ReplicateRequest(_LocalData, title="Replicate"):
    """Train with a trainer that is published at Replicate, and push the result to a model of your own."""

    DECIDING: ClassVar[frozenset[str]] = TrainRequest.DECIDING | {
        "trainer",
        "destination",
        "pipeline",
        "data_input",
        "dataset_url",
        "inputs",
    }
    NAMING: ClassVar[frozenset[str]] = frozenset(
        {"dataset", "trainer", "destination", "pipeline", "hardware", "data_input", "inputs"}
    )

    dataset: _LOCAL_PATH
    """Path of the training data: a ZIP archive of labelled images; a Pictograph export is checked in full."""
    provider: Literal["replicate"] = "replicate"
    """The hosted provider that trains."""
    trainer: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+:[0-9a-f]{64}$")]
    """The trainer's version, as owner/name:64 hex digits."""
    destination: _MODEL
    """The model of yours that gets the new version, as owner/name."""
    create_destination: bool = True
    """Make the destination, privately, when there is none of that name."""
    destination_hardware: Annotated[str, Field(min_length=1, max_length=60)] = "cpu"
    """Hardware a destination that is made here predicts on."""
    pipeline: PipelineType = "yolox"
    """Which pipeline's outputs the trained ONNX has; also handed to a trainer that takes an input of this name."""
    data_input: Annotated[str, Field(min_length=1, max_length=100)] = "train_data"
    """The trainer's input that takes the address of the training data."""
    dataset_url: Annotated[str, Field(pattern=r"^https?://", max_length=2000)] | None = None
    """Where the trainer can fetch the same archive; needed above the provider's 100 MB limit for uploads."""
    inputs: dict[str, JsonValue] = Field(default_factory=dict)
    """The trainer's further inputs, handed over unchanged."""
    hardware: Annotated[str, Field(min_length=1, max_length=60)] = "gpu-t4"
    """The trainer's hardware, as its page names it: decides the price, and is not sent."""
    gpu_minutes: Annotated[int, Field(ge=1, le=10_080)] | None = None
    """Minutes the training is expected to take; a budget needs them."""
    smoke: Literal["auto", "onnx", "hosted", "none"] = "auto"
    """How the model is tried: its ONNX here, the hosted version there, neither, or whichever there is."""
    smoke_input: dict[str, JsonValue] = Field(default_factory=dict)
    """Inputs of the prediction that tries the hosted version; an ``image`` that is not set is a sample."""

    @property
    def kind(self) -> str:
        """The pipeline."""
        return self.pipeline

    @property
    def tier(self) -> str:
        """The trainer's hardware."""
        return self.hardware

    @property
    def config_asked(self) -> TrainConfig:
        """The trainer's inputs that are plain values."""
        plain = {key: value for key, value in self.inputs.items() if isinstance(value, (bool, int, float, str))}
        return TrainConfig(extra=plain)

    @property
    def expected_minutes(self) -> int | None:
        """Minutes, where somebody has named them."""
        return self.gpu_minutes

    @field_validator("inputs", "smoke_input")
    @classmethod
    def _in_json(cls, inputs: dict[str, JsonValue]) -> dict[str, JsonValue]:
        require_finite(inputs)
        return inputs

    def shown(self) -> Self:
        """Return the request without users and queries of addresses, which may be as good as a password."""
        given = {name: getattr(self, name) for name in ("dataset_url", "inputs", "smoke_input")}
        return self.model_copy(update={name: without_secrets(value) for name, value in given.items() if hides(value)})

    @property
    def needs_weights(self) -> bool:
        """True when only an ONNX will do."""
        return self.smoke == "onnx"

    def tries_here(self, *, has_weights: bool) -> bool:
        """Tell whether the ONNX among the weights is to run on this machine."""
        return has_weights and self.smoke in {"auto", "onnx"}

    def tries_there(self, *, has_weights: bool) -> bool:
        """Tell whether the hosted version is to be asked."""
        return self.smoke == "hosted" or (self.smoke == "auto" and not has_weights)

    def check(self) -> None:
        """Refuse fields that contradict each other.

        Raises:
            ConfigurationError: They do; the error names one.
        """
        super().check()
        if self.data_input in self.inputs:
            message = f"inputs names {self.data_input!r}, which gets the address of the training data; leave it out"
            raise refused("inputs", message)
        if self.dataset_url is not None and names_user(self.dataset_url):
            message = (
                "dataset_url names a user, or cannot be read, and requests are stored and shown; give another address"
            )
            raise refused("dataset_url", message)


class BluesightRequest(_LocalData, title="Bluesight"):
    """Fine-tune Bluesight's satellite model on labelled tiles."""

    DECIDING: ClassVar[frozenset[str]] = TrainRequest.DECIDING | {"validation", "task", "num_classes"}
    KIND_FIELD: ClassVar[str] = "task"
    NAMING: ClassVar[frozenset[str]] = frozenset({"dataset", "task", "num_classes"})

    dataset: _LOCAL_PATH
    """Path of the training data: one HDF5 file of labelled tiles."""
    provider: Literal["bluesight"] = "bluesight"
    """The hosted provider that trains."""
    validation: _LOCAL_PATH | None = None
    """Path of an HDF5 file of tiles to validate on, in the same format."""
    task: Literal["classification", "segmentation"] = "classification"
    """What the model is to do."""
    num_classes: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Number of classes; needed for segmentation."""
    on_unknown_create: Literal["stop", "repeat"] = "stop"
    """When the answer to a create was lost, and nobody can tell whether a job was made: stop, or make another one."""
    samples: Annotated[int, Field(ge=1, le=16)] = 2
    """Tiles of the training data the hosted model is tried on."""

    @property
    def kind(self) -> str:
        """The task."""
        return self.task

    @property
    def repeats_unknown(self) -> bool:
        """True with ``on_unknown_create=repeat``."""
        return self.on_unknown_create == "repeat"

    def check(self) -> None:
        """Refuse fields that contradict each other.

        Raises:
            ConfigurationError: They do; the error names one.
        """
        super().check()
        if self.task == "segmentation" and self.num_classes is None:
            message = "task='segmentation' needs to know how many classes there are; set num_classes"
            raise refused("num_classes", message)


class PhotogptRequest(_LocalData, title="PhotoGPT"):
    """Train PhotoGPT's model of one person on 12 to 20 pictures."""

    DECIDING: ClassVar[frozenset[str]] = TrainRequest.DECIDING | {"age", "gender", "ethnicity", "eye_color"}
    NAMING: ClassVar[frozenset[str]] = frozenset({"dataset", "age", "gender"})

    dataset: _LOCAL_PATH
    """Path of the folder that holds the pictures, and nothing else; its name is shown, names of pictures are not."""
    provider: Literal["photogpt"] = "photogpt"
    """The hosted provider that trains."""
    age: Annotated[int, Field(ge=18, le=120)]
    """The person's age in years."""
    gender: Literal["Male", "Female"]
    """The person's gender, as far as the provider knows words for it."""
    ethnicity: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """The person's ethnicity, in free words."""
    eye_color: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    """The person's eye colour, in free words."""
    price_credits: Annotated[int, Field(ge=1)] | None = None
    """What a training costs, in credits, as you know it: the provider publishes no price; a budget needs it."""
    smoke: bool = False
    """Try the model by having one picture generated; the provider bills that."""
    smoke_prompt: Annotated[str, Field(min_length=1, max_length=500)] = "portrait photo, plain background"
    """What that picture is to show."""

    def shown(self) -> Self:
        """Return the request without what it says of the person in free words."""
        unsaid = {name: "[redacted]" for name in ("ethnicity", "eye_color") if getattr(self, name) is not None}
        return self.model_copy(update={**unsaid, "smoke_prompt": "[redacted]"})

    def tries_there(self, *, has_weights: bool) -> bool:
        """Tell whether a picture is to be generated: only when asked, for it is billed."""
        _ = has_weights
        return self.smoke

    @property
    def kind(self) -> str:
        """A model of a person."""
        return "portrait"
