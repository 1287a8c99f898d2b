"""The values of the pipeline, in the order a run meets them.

``TrainRequest > TrainPlan > ExportReport > CostEstimate > TrainingRun > ModelArtifact > SmokeReport > RunReport``.

Values are frozen, refuse unknown fields, use tuples for sequences and aware UTC times, and carry units in their names.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AwareDatetime, Field, JsonValue

from pipeline.provider_requests import AnyTrainRequest
from pipeline.requests import TrainConfig, TrainRequest
from pipeline.value import Value

AskedRequest = TypeVar("AskedRequest", bound=TrainRequest)


class Unit(StrEnum):
    """What money is counted in; providers bill in credits or in millionths of a US dollar."""

    CREDITS = "credits"
    MICRO_USD = "micro_usd"


class Money(Value):
    """An amount in the provider's own unit; amounts of different units never mix."""

    amount: int
    """Whole credits, or millionths of a US dollar."""
    unit: Unit
    """The unit of ``amount``."""

    def __str__(self) -> str:
        """Format for people: ``12 credits`` or ``$1.2345``."""
        if self.unit is Unit.CREDITS:
            return f"{self.amount} credits"
        dollars = f"{self.amount / 1_000_000:.4f}"
        return f"${dollars[:-2] if dollars.endswith('00') else dollars}"


class ModelTask(StrEnum):
    """What a model does; decides how its outputs are read."""

    OBJECT_DETECTION = "object_detection"
    INSTANCE_SEGMENTATION = "instance_segmentation"
    SEMANTIC_SEGMENTATION = "semantic_segmentation"
    CLASSIFICATION = "classification"
    IMAGE_GENERATION = "image_generation"


class GuaranteeLevel(StrEnum):
    """How firmly one request becomes one paid training."""

    EXACTLY_ONCE = "exactly_once"
    AT_MOST_ONCE = "at_most_once"


class PollPolicy(Value):
    """When to look at a run again, and how much bad luck to bear."""

    interval_s: float
    """Seconds between looks while there is no forecast."""
    floor_s: float
    """Least seconds between looks."""
    ceiling_s: float
    """Most seconds between looks."""
    deadline_s: float
    """Seconds after which watching ends."""
    not_found_grace_s: float = 60.0
    """Seconds during which an unknown run is taken for one not yet visible."""
    max_blind_s: float = 1800.0
    """Seconds without one successful look before watching ends (the run goes on)."""
    refusal_grace_s: float = 300.0
    """Seconds during which a refused key (401, 403) is taken for a hiccup of the provider's sign-in."""
    fixed: bool = False
    """True ignores forecasts: every wait is ``interval_s``."""


PIPELINE_TASKS: dict[str, ModelTask] = {
    "yolox": ModelTask.OBJECT_DETECTION,
    "detectron2": ModelTask.INSTANCE_SEGMENTATION,
    "sm_pytorch": ModelTask.SEMANTIC_SEGMENTATION,
    "classification": ModelTask.CLASSIFICATION,
    "rfdetr_detection": ModelTask.OBJECT_DETECTION,
    "rfdetr_segmentation": ModelTask.INSTANCE_SEGMENTATION,
}
"""What the model of each pipeline does that a request can name (``PipelineType``)."""


class CreationPolicy(Value):
    """What is done when the answer to a create was lost."""

    sendings: Annotated[int, Field(ge=1)] = 3
    """Creates sent for one attempt, each after the provider has denied the run that the one before may have made."""
    lookups: Annotated[int, Field(ge=1)] = 4
    """Look-ups before the run is taken for not made."""
    lookup_wait_s: float = 2.0
    """Seconds before the second look-up; doubles each time, for lists that lag behind."""
    lookup_ceiling_s: float = 16.0
    """Most seconds between two look-ups."""


class ProviderProfile(Value):
    """A provider's facts as data; each adapter makes its own."""

    name: str
    """Short name, as in ``TrainRequest.provider``."""
    title: str
    """The provider's name for people."""
    poll: PollPolicy
    """The recommended way to wait."""
    export_poll: PollPolicy = PollPolicy(interval_s=2.0, floor_s=2.0, ceiling_s=10.0, deadline_s=300.0)
    """The recommended way to wait for an export."""
    min_images: int
    """Least images an export must hold."""
    run_name_max: int
    """Longest run name accepted, in characters."""
    pipelines: dict[str, ModelTask]
    """Pipelines offered and what each one's model does."""
    gpus: tuple[str, ...]
    """GPU tiers offered, the smallest first."""
    guarantee: GuaranteeLevel
    """How firmly one request becomes one paid training."""
    out_of_memory: str = "out of memory"
    """Words in the error of a run that did not fit into the GPU's memory, in lower case."""
    run_page: str
    """Address of a run's page for people, with ``{run_id}`` and ``{dataset}``; may be empty."""
    data: Literal["export", "archive", "tiles", "pictures"] = "export"
    """Where the training data is: an export made at the provider, or here: a ZIP archive, an HDF5 file, a folder."""
    weights: Literal["onnx", "archive", "none"] = "onnx"
    """What a completed run gives to download: an ONNX file, whatever the trainer returned, or nothing."""
    hosted_inference: Literal["free", "billed", "none"] = "none"
    """Whether the trained model answers at the provider, and whether asking it is billed."""
    cancels: Literal["yes", "advice", "no"] = "yes"
    """Whether a run can be ended: for certain, as advice that it may ignore, or not at all."""
    prices: Literal["provider", "rates", "configured", "none"] = "provider"
    """Where a price comes from: the provider, a table of rates, what the request says, or nowhere."""
    bills: bool = True
    """Whether what a run really cost can be read afterwards."""
    has_key: bool = True
    """Whether an account has a key."""
    finds_runs: bool = True
    """Whether a run whose create was not answered can be found."""
    lists_runs: bool = True
    """Whether all runs of the account can be listed."""
    shows_progress: bool = True
    """Whether a run shows how far it is."""
    shows_logs: bool = False
    """Whether a run shows what its trainer prints."""
    sends_webhooks: bool = False
    """Whether the provider calls back when a run changes."""
    creation: CreationPolicy = CreationPolicy()
    """What is done when the answer to a create was lost."""
    sandbox: bool = False
    """True when this is the local sandbox speaking the provider's API."""


class Operation(Value):
    """One logical training, however often it is attempted; made by whoever starts the flow."""

    id: str
    """What tells it apart; the same id always means the same training."""
    again: bool = False
    """True when it was attempted before, so that its run may already exist and be paid for."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """Counts up when an attempt has ended without a model; each attempt is one run at most."""


KEY_IN_NAME = 10
"""Characters of the operation key carried in names: 40 bits, enough to tell operations of one data set apart."""


class TrainPlan(Value):
    """A request resolved into everything the stages need; made by ``planning.resolve_plan``."""

    request: AnyTrainRequest
    """What was asked."""
    profile: ProviderProfile
    """The provider's facts this plan was made with."""
    operation: Operation
    """Which logical training this is."""
    operation_key: str
    """The operation's identity on the wire: 32 lowercase hex characters."""
    fingerprint: str
    """SHA-256 of everything that decides what is trained."""
    run_name: str
    """Deterministic run name; carries the operation key."""
    export_name: str
    """The export to find or to make."""
    task: ModelTask
    """What the model will do."""
    poll: PollPolicy
    """How to wait for the run."""
    config_asked: TrainConfig
    """Hyperparameters as they were asked for; an attempt that did not fit may be followed by one with fewer."""
    output_dir: Path
    """The run's own folder."""

    def asked_of(self, kind: type[AskedRequest]) -> AskedRequest:
        """Return the request as the kind that its provider's adapter understands.

        Raises:
            TypeError: It is another provider's.
        """
        if not isinstance(self.request, kind):
            raise TypeError(f"a plan for {self.request.provider!r} was handed to an adapter that takes {kind.__name__}")
        return self.request

    @property
    def job(self) -> str:
        """What is trained again and again, whatever the night: provider, data set, pipeline."""
        return f"{self.profile.name}/{self.request.dataset}/{self.request.kind}"

    def owns(self, run_name: str) -> bool:
        """Tell whether a run of that name was created by this operation, under whatever readable name."""
        return run_name.endswith("-" + self.operation_key[:KEY_IN_NAME])


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Finding(Value):
    """One remark of a stage; an error finding stops the run before money is spent."""

    severity: Severity
    """How much it matters."""
    code: str
    """Stable short code."""
    message: str
    """What was found, on what, and what to do."""


class Skipped(Value):
    """A stage that does not apply, and why."""

    stage: str
    """Name of the stage."""
    reason: str
    """Why it was not needed."""


class ExportStatus(StrEnum):
    """Life of an export; words we do not know count as not ready."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """True when the status cannot change any more."""
        return self in {ExportStatus.COMPLETED, ExportStatus.FAILED}


class Export(Value):
    """An export as the provider describes it; made by an adapter."""

    id: str
    """The provider's id."""
    name: str
    """The export's name, unique in its data set."""
    dataset: str
    """The data set's name."""
    status: ExportStatus
    """Where it stands."""
    provider_status: str
    """The provider's own word."""
    image_count: int | None = None
    """Images inside, once known."""
    annotation_count: int | None = None
    """Annotations inside, once known."""
    size_bytes: int | None = None
    """Size of the archive, once known."""
    include_images: bool = False
    """Whether the image files are inside."""
    class_filter: tuple[str, ...] = ()
    """Classes it was restricted to."""
    error_message: str | None = None
    """Why it failed."""


class ClassCount(Value):
    """How often a class is labelled in the export."""

    name: str
    """The class."""
    images: int
    """Images that show it."""
    objects: int
    """Labels of it."""


class LabelledBox(Value):
    """One labelled object on a picture."""

    name: str
    """The class."""
    box: tuple[float, float, float, float]
    """x, y, width, height in pixels, origin at the top left."""


class SamplePicture(Value):
    """A real picture of the export, kept for the smoke test."""

    path: Path
    """The image file."""
    split: str | None = None
    """``train``, ``val`` or ``test`` where the export says so."""
    boxes: tuple[LabelledBox, ...] = ()
    """What is labelled on it."""
    tags: tuple[str, ...] = ()
    """Its labels as a whole."""


class ExportReport(Value):
    """What the export holds and what is wrong with it; made by ``exports.inspect_export``."""

    export: Export
    """The export that was inspected."""
    classes: tuple[ClassCount, ...]
    """Labelled classes, most frequent first."""
    findings: tuple[Finding, ...]
    """Remarks; none of severity error, or the stage would have raised."""
    content_fingerprint: str
    """SHA-256 over images, annotations and classes; no times, no ids."""
    samples: tuple[SamplePicture, ...]
    """Pictures kept for the smoke test."""


class CostEstimate(Value):
    """What the training will cost; made by an adapter."""

    total: Money
    """Expected charge."""
    per_minute: Money
    """Price of one GPU minute."""
    gpu_minutes: float
    """GPU minutes the total is made of."""
    gpu: str
    """Concrete GPU tier."""
    balance: Money | None
    """What the account can still spend."""
    sufficient: bool
    """Whether the provider says the balance covers it."""
    source: Literal["quote", "estimate", "configured"]
    """``quote``: the provider priced this very run; ``estimate``: unit price times minutes; ``configured``: the
    request's own word."""
    findings: tuple[Finding, ...] = ()
    """Remarks of the quote, such as images deleted since the export."""


class RunStatus(StrEnum):
    """Life of a training run; a word we do not know is not an end."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """True when the status cannot change any more."""
        return self in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


class RunHandle(Value):
    """All that is needed to look at a run again, from any process."""

    provider: str
    """Which adapter understands it."""
    run_id: str
    """The provider's id."""
    name: str
    """The run's name."""
    dataset: str
    """The data set's name."""


class TrainingRun(Value):
    """A handle and the latest observation; made by an adapter."""

    handle: RunHandle
    """Identity."""
    status: RunStatus
    """Our word."""
    provider_status: str
    """The provider's own word."""
    progress: float | None = None
    """Percent, 0 to 100."""
    epoch: int | None = None
    """Epochs done."""
    total_epochs: int | None = None
    """Epochs planned."""
    eta_s: float | None = None
    """Seconds to go as the provider predicts them."""
    pipeline: str | None = None
    """The provider's training pipeline."""
    trained_on: tuple[str, ...] = ()
    """What the provider calls the data set, by id and by name; empty where it does not say."""
    gpu: str | None = None
    """Concrete GPU tier."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """Figures as reported by the provider."""
    model_id: str | None = None
    """The model made, once there is one."""
    error_message: str | None = None
    """Why it failed."""
    warnings: tuple[Finding, ...] = ()
    """The provider's remarks."""
    logs: str | None = Field(default=None, exclude=True, repr=False)
    """What the trainer has printed so far, where the provider shows it; kept out of whatever is stored."""
    created_at: AwareDatetime | None = None
    """When it was created."""
    started_at: AwareDatetime | None = None
    """When a GPU took it."""
    completed_at: AwareDatetime | None = None
    """When it ended."""
    adopted: bool = False
    """True when this run was found, not started, by this process."""


class CurvePoint(Value):
    """One point of the loss curve, seen while watching."""

    epoch: int
    """Epoch number."""
    loss: float
    """Training loss."""


class WatchedRun(Value):
    """A run that has ended, or was given up, and what was seen on the way; made by ``watching.watch_run``."""

    run: TrainingRun
    """The last observation."""
    curve: tuple[CurvePoint, ...] = ()
    """Loss by epoch."""
    looks: int = 0
    """Successful looks."""
    failed_looks: int = 0
    """Looks that gave no observation."""
    watched_s: float = 0.0
    """Seconds spent watching."""
    gave_up: str | None = None
    """Why watching ended before the run did."""
    stopped: Literal["cancelled", "over_budget"] | None = None
    """Why the run was to be ended before its time: somebody wanted it, or its cost came too near the cap."""


class ModelFacts(Value):
    """What the provider says about the model; made by an adapter."""

    model_id: str
    """The provider's id."""
    name: str
    """The model's name."""
    status: str
    """The provider's own word; ``ready`` means downloadable."""
    task: ModelTask
    """What it does."""
    architecture: str | None = None
    """Network family, as the provider calls it."""
    classes: tuple[str, ...] = ()
    """Class names in label order."""
    input_size: tuple[int, int] | None = None
    """Height and width it was trained for, in pixels, as its trainer says."""
    metrics: dict[str, JsonValue] = Field(default_factory=dict)
    """Held-out figures as reported by the provider."""
    no_weights: str | None = None
    """Why there is nothing to download; none when there is."""


class ModelArtifact(Value):
    """A model file on this machine whose bytes were verified; made by ``collection.collect``."""

    path: Path
    """The file."""
    size_bytes: int
    """Its size."""
    md5: str
    """MD5 of its bytes, lowercase hex."""
    sha256: str
    """SHA-256 of its bytes, lowercase hex."""
    verified_by: tuple[str, ...]
    """What was compared: ``size``, ``md5 (x-goog-hash)`` and so on; no digest here means the server offered none."""
    resumed: int = 0
    """How often the transfer was resumed or restarted."""
    model: ModelFacts
    """What the provider says about it."""
    findings: tuple[Finding, ...] = ()
    """Remarks on what lay beside it."""


class Prediction(Value):
    """One thing the model sees on a picture."""

    name: str
    """The class."""
    confidence: float
    """0 to 1."""
    box: tuple[float, float, float, float] | None = None
    """x, y, width, height in pixels; none for whole-image tasks."""


class SampleResult(Value):
    """What the model said about one sample picture."""

    picture: str
    """File name."""
    predictions: tuple[Prediction, ...]
    """What it saw, best first."""
    expected: int
    """Labels on the picture."""
    found: int
    """Labels the model found."""
    latency_s: float
    """Seconds for one inference."""
    overlay: Path | None = None
    """The picture with predictions drawn."""


class SmokeReport(Value):
    """Proof that the model runs on real pictures; made by ``smoke.smoke_test``."""

    results: tuple[SampleResult, ...]
    """One entry a picture."""
    input_size: tuple[int, int]
    """Height and width the model takes, in pixels."""
    classes: tuple[str, ...]
    """Classes it was read with."""
    agreement: float | None
    """Share of labels found; none when the pictures carry no labels."""
    findings: tuple[Finding, ...] = ()
    """Remarks, such as a picture without any prediction."""


class HostedReport(Value):
    """Proof that the trained model answers at the provider; made by an adapter."""

    model_id: str
    """The model that was asked."""
    asked: int
    """Samples it was asked about."""
    answered: int
    """Answers that fit the task."""
    agreement: float | None = None
    """Share of the samples' labels the answers agree with; none where there are none to compare with."""
    latency_s: float
    """Seconds for the slowest answer."""
    inconclusive: str | None = None
    """Why nothing could be learned of the model; none when something was."""
    pictures: tuple[Path, ...] = ()
    """What the model made, where it makes pictures."""
    findings: tuple[Finding, ...] = ()
    """Remarks."""


class Outcome(StrEnum):
    """How a run ended; decides final state and exit code."""

    ACCEPTED = "accepted"
    UNTRIED = "untried"
    SUBMITTED = "submitted"
    REJECTED = "rejected"
    FAILED = "failed"
    OVER_BUDGET = "over_budget"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    USAGE = "usage"


class Settlement(Value):
    """What the run really cost, read from the provider's ledger; made by an adapter."""

    charged: Money
    """Charged for this run, refunds already taken off."""
    refunded: Money
    """Refunded for this run."""
    balance: Money | None = None
    """What the account can still spend."""


class RunReport(Value):
    """Everything about one run; made by ``report.Dossier``."""

    outcome: Outcome
    """How it ended."""
    message: str
    """The outcome in one sentence."""
    outcome_unknown: bool = False
    """True when a paid run may exist although the provider's answer to creating it was lost."""
    operation_id: str
    """What ``--operation`` takes to come back to this training."""
    request: AnyTrainRequest
    """What was asked."""
    plan: TrainPlan | None = None
    """What was to be done; none when the request could not be resolved."""
    started_at: AwareDatetime
    """When the flow began."""
    ended_at: AwareDatetime
    """When it ended."""
    export: ExportReport | None = None
    """What was trained on."""
    cost: CostEstimate | None = None
    """What it was expected to cost."""
    settlement: Settlement | None = None
    """What it did cost."""
    run: TrainingRun | None = None
    """The run as last seen."""
    watched: WatchedRun | None = None
    """How the watching went."""
    artifact: ModelArtifact | None = None
    """The model file."""
    smoke: SmokeReport | None = None
    """Proof that it runs."""
    hosted: HostedReport | None = None
    """Proof that it answers there."""
    skipped: tuple[Skipped, ...] = ()
    """Stages that did not apply."""
