"""Judgement, with the model's process replaced by its result."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import OutputCheckError, OutputPathError
from pipeline.models import (
    HostedReport,
    LabelledBox,
    ModelArtifact,
    ModelFacts,
    ModelTask,
    Prediction,
    SamplePicture,
    Severity,
    Skipped,
    SmokeReport,
)
from pipeline.smoke import judging
from pipeline.smoke.agreement import box_iou, count_found
from pipeline.smoke.inference import InferenceJob, InferenceResult, PictureReading

LABELS = ("car", "dog")


def box(name: str, *place: float) -> LabelledBox:
    """Make a label."""
    return LabelledBox(name=name, box=place)  # type: ignore[arg-type]


def see(name: str, *place: float, confidence: float = 0.9) -> Prediction:
    """Make a prediction."""
    return Prediction(name=name, confidence=confidence, box=place or None)  # type: ignore[arg-type]


def artifact(task: ModelTask = ModelTask.OBJECT_DETECTION, classes: tuple[str, ...] = LABELS) -> ModelArtifact:
    """Describe a model file that nobody opens."""
    facts = ModelFacts(model_id="m1", name="road model", status="ready", task=task, classes=classes)
    return ModelArtifact(path=Path("m.onnx"), size_bytes=1, md5="0", sha256="0", verified_by=("size",), model=facts)


class Bench:
    """Runs the smoke test over pictures and readings given one by one."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.jobs: list[InferenceJob] = []
        self.options = judging.DEFAULT_OPTIONS
        self.responds = True
        self._samples: list[SamplePicture] = []
        self._readings: list[PictureReading] = []
        patch.setattr(judging, "run_inference", self._answer)

    def add(self, labels: list[LabelledBox], seen: list[Prediction], tags: tuple[str, ...] = ()) -> None:
        """Add a picture, its labels and what the model will say about it."""
        path = self.folder / f"p{len(self._samples)}.png"
        Image.new("RGB", (100, 100)).save(path)
        self._samples.append(SamplePicture(path=path, boxes=tuple(labels), tags=tags))
        self._readings.append(PictureReading(predictions=tuple(seen), latency_s=0.01))

    def run(self, model: ModelArtifact, labels: tuple[str, ...] = LABELS, min_agreement: float = 0.5) -> SmokeReport:
        """Judge the model."""
        report = judging.smoke_test(
            model,
            tuple(self._samples),
            min_agreement=min_agreement,
            output_dir=self.folder / "run",
            labels=labels,
            options=self.options,
        )
        assert isinstance(report, SmokeReport)
        return report

    def _answer(self, job: InferenceJob) -> InferenceResult:
        self.jobs.append(job)
        return InferenceResult(readings=tuple(self._readings), input_size=(64, 64), responds=self.responds)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench in an empty folder."""
    return Bench(tmp_path, monkeypatch)


def test_a_good_model_is_accepted_with_its_figures(bench: Bench) -> None:
    """Labels found are counted by picture and in all, and every picture has an overlay."""
    bench.add([box("car", 10, 10, 40, 40), box("dog", 60, 60, 30, 30)], [see("car", 11, 11, 40, 40)])
    bench.add([box("dog", 5, 5, 50, 50)], [see("dog", 5, 5, 48, 52)])
    report = bench.run(artifact())
    assert report.agreement == pytest.approx(2 / 3)
    assert [(result.found, result.expected) for result in report.results] == [(1, 2), (1, 1)]
    assert [result.overlay.name for result in report.results if result.overlay] == ["01-p0.png", "02-p1.png"]
    assert all(result.overlay and result.overlay.is_file() for result in report.results)
    assert report.findings == ()
    assert bench.jobs[0].classes == LABELS


@pytest.mark.parametrize(
    ("trained", "asked", "fed"),
    [
        ((224, 96), (320, 320), (224, 96)),
        (None, (320, 256), (320, 256)),
        (None, None, (640, 640)),
        ((1, 1), (320, 320), (320, 320)),
        ((16_384, 64), None, (640, 640)),
        (None, (5, 640), (640, 640)),
    ],
)
def test_a_graph_that_leaves_its_size_open_is_fed_the_one_it_was_trained_for(
    bench: Bench, trained: tuple[int, int] | None, asked: tuple[int, int] | None, fed: tuple[int, int]
) -> None:
    """As its trainer says, else as it was asked for, else 640; a size that cannot be fed is not believed."""
    bench.add([box("car", 10, 10, 40, 40)], [see("car", 10, 10, 40, 40)])
    bench.options = judging.SmokeOptions(asked_size=asked)
    model = artifact()
    bench.run(model.model_copy(update={"model": model.model.model_copy(update={"input_size": trained})}))
    assert bench.jobs[0].fallback_size == fed


def test_too_little_agreement_is_refused_with_the_figures(bench: Bench) -> None:
    """The message holds the share, the bar and each picture; the overlays are there to look at."""
    bench.add([box("car", 10, 10, 40, 40)], [see("car", 60, 60, 20, 20)])
    bench.add([box("dog", 5, 5, 50, 50), box("dog", 60, 60, 9, 9)], [see("dog", 5, 5, 50, 50)])
    with pytest.raises(OutputCheckError, match=r"1 of 3 labels \(33\.3%\).*50\.0%.*p0\.png 0/1, p1\.png 1/2"):
        bench.run(artifact())
    assert len(list((bench.folder / "run" / "overlays").iterdir())) == 2


def test_agreement_exactly_at_the_bar_is_enough(bench: Bench) -> None:
    """Half of the labels is not less than half."""
    bench.add([box("car", 10, 10, 40, 40), box("car", 60, 60, 30, 30)], [see("car", 10, 10, 40, 40)])
    assert bench.run(artifact()).agreement == 0.5


def test_a_flood_of_predictions_is_refused(bench: Bench) -> None:
    """Among boxes everywhere some lie on the labels; that is no agreement."""
    grid = [see("car", x, y, 10, 10) for x in range(0, 90, 10) for y in range(0, 90, 10)]
    bench.add([box("car", 10, 10, 10, 10)], grid)
    with pytest.raises(OutputCheckError, match="predicts 81 objects where 1 are labelled"):
        bench.run(artifact())


def test_many_predictions_are_remarked_on(bench: Bench) -> None:
    """Four objects for one label may be right, or may not: a warning."""
    bench.add([box("car", 10, 10, 40, 40)], [see("car", 10, 10, 40, 40), *[see("dog", 1, 1, 5, 5)] * 3])
    assert [finding.code for finding in bench.run(artifact()).findings] == ["many_predictions"]


def test_a_folder_that_cannot_be_written_is_named(bench: Bench) -> None:
    """A file in the folder's place is an error of the output path, not a traceback."""
    bench.add([], [see("car", 1, 1, 5, 5)])
    (bench.folder / "run").write_text("in the way")
    with pytest.raises(OutputPathError, match=r"overlays.*Not a directory"):
        bench.run(artifact())


def test_a_dead_model_is_refused(bench: Bench) -> None:
    """Outputs that do not depend on the picture condemn the model, even when they happen to be right."""
    bench.add([box("car", 10, 10, 40, 40)], [see("car", 10, 10, 40, 40)])
    bench.responds = False
    with pytest.raises(OutputCheckError, match="very same outputs"):
        bench.run(artifact())


def test_classes_of_another_training_are_refused_before_anything_runs(bench: Bench) -> None:
    """Missing and extra names are listed, and the stranger is not even opened."""
    bench.add([], [])
    with pytest.raises(OutputCheckError, match="missing dog; extra cat, cow"):
        bench.run(artifact(classes=("car", "cow", "cat")))
    assert bench.jobs == []


def test_a_missing_class_is_refused(bench: Bench) -> None:
    """A model that cannot name what the export shows is the model of another training."""
    bench.add([], [])
    with pytest.raises(OutputCheckError, match="missing dog; extra none"):
        bench.run(artifact(classes=("car",)))


def test_a_class_that_nothing_is_labelled_with_is_remarked_on(bench: Bench) -> None:
    """A class the data set defines and no picture shows does not cost a model that was paid for."""
    bench.add([box("car", 10, 10, 40, 40)], [see("car", 10, 10, 40, 40)])
    report = bench.run(artifact(classes=("car", "dog", "tram")))
    assert [finding.code for finding in report.findings] == ["classes_extra"]
    assert "tram" in report.findings[0].message
    assert report.classes == ("car", "dog", "tram")


def test_the_order_of_classes_is_the_models_own(bench: Bench) -> None:
    """The export's order does not matter; the model is read with its record's order."""
    bench.add([], [see("car", 1, 1, 5, 5)])
    assert bench.run(artifact(classes=("dog", "car"))).classes == ("dog", "car")


def test_repeated_classes_are_refused(bench: Bench) -> None:
    """Two columns of one name cannot be told apart."""
    bench.add([], [])
    with pytest.raises(OutputCheckError, match="twice: car"):
        bench.run(artifact(classes=("car", "dog", "car")))


def test_a_model_without_class_names_is_read_with_the_exports(bench: Bench) -> None:
    """That is a warning, not a verdict."""
    bench.add([], [see("car", 1, 1, 5, 5)])
    report = bench.run(artifact(classes=()))
    assert report.classes == LABELS
    assert "classes_assumed" in [finding.code for finding in report.findings]


def test_no_names_anywhere_is_refused(bench: Bench) -> None:
    """Without any class nothing can be read."""
    bench.add([], [])
    with pytest.raises(OutputCheckError, match="names any class"):
        bench.run(artifact(classes=()), labels=())


def test_no_pictures_are_no_proof_and_no_verdict(tmp_path: Path) -> None:
    """A model that nobody could try is neither accepted nor refused."""
    said = judging.smoke_test(artifact(), (), min_agreement=0.5, output_dir=tmp_path, labels=LABELS)
    assert isinstance(said, Skipped)
    assert (said.stage, "no picture" in said.reason) == ("smoke test", True)


def test_pictures_without_labels_leave_agreement_open(bench: Bench) -> None:
    """Agreement is none and said to be; a picture without predictions is remarked on by name."""
    bench.add([], [see("car", 1, 1, 5, 5)])
    bench.add([], [])
    report = bench.run(artifact())
    assert report.agreement is None
    assert [finding.code for finding in report.findings] == ["no_prediction", "agreement_unknown"]
    assert "'p1.png'" in report.findings[0].message
    assert {finding.severity for finding in report.findings} == {Severity.WARNING}


def test_classifiers_are_right_by_their_best_class(bench: Bench) -> None:
    """The second rank does not count; a picture counts once."""
    bench.add([], [see("car"), see("dog", confidence=0.6)], tags=("car",))
    bench.add([], [see("car"), see("dog", confidence=0.6)], tags=("dog",))
    report = bench.run(artifact(ModelTask.CLASSIFICATION))
    assert [(result.found, result.expected) for result in report.results] == [(1, 1), (0, 1)]


def test_overlay_names_cannot_leave_their_folder(bench: Bench) -> None:
    """A file name from an export is reduced to plain letters."""
    assert judging._plain_name("../../etc/pass wd\x00") == "etc-pass-wd"
    assert judging._plain_name("日本") == "picture"


def sample(*labels: LabelledBox) -> SamplePicture:
    """Make a picture that is never opened."""
    return SamplePicture(path=Path("p.png"), boxes=labels)


def test_each_prediction_serves_one_label() -> None:
    """Two labels at one place need two predictions, and class must agree."""
    twins = sample(box("car", 0, 0, 10, 10), box("car", 1, 0, 10, 10))
    task = ModelTask.OBJECT_DETECTION
    assert count_found(task, twins, [see("car", 0, 0, 10, 10)]).found == 1
    assert count_found(task, twins, [see("car", 0, 0, 10, 10), see("car", 0, 0, 10, 10)]).found == 2
    assert count_found(task, twins, [see("dog", 0, 0, 10, 10)]).found == 0


def test_half_an_overlap_is_needed() -> None:
    """Intersection over union of a half counts, less does not."""
    assert box_iou((0, 0, 10, 10), (0, 0, 10, 5)) == pytest.approx(0.5)
    label = sample(box("car", 0, 0, 10, 10))
    assert count_found(ModelTask.OBJECT_DETECTION, label, [see("car", 0, 0, 10, 5)]).found == 1
    assert count_found(ModelTask.OBJECT_DETECTION, label, [see("car", 0, 0, 10, 4.9)]).found == 0


def test_semantic_regions_may_merge_and_split() -> None:
    """Touching objects in one region, and one object in two regions, are both found."""
    task = ModelTask.SEMANTIC_SEGMENTATION
    touching = sample(box("car", 0, 0, 50, 50), box("car", 50, 0, 50, 50))
    assert count_found(task, touching, [see("car", 0, 0, 100, 50)]).found == 2
    assert (
        count_found(
            task, sample(box("car", 0, 0, 100, 50)), [see("car", 0, 0, 45, 50), see("car", 50, 0, 50, 50)]
        ).found
        == 1
    )


def test_a_semantic_region_over_everything_finds_nothing() -> None:
    """Calling the whole picture a car does not find the small car in it."""
    small = sample(box("car", 10, 10, 20, 20))
    assert count_found(ModelTask.SEMANTIC_SEGMENTATION, small, [see("car", 0, 0, 100, 100)]).found == 0
    assert count_found(ModelTask.SEMANTIC_SEGMENTATION, small, [see("dog", 10, 10, 20, 20)]).found == 0


# -- models that stay at the provider ---------------------------------------------------------------------------------


def test_a_hosted_model_must_answer_everything_it_was_asked() -> None:
    """One answer that is of no use is one too many."""
    judging.check_hosted(_hosted(), min_agreement=0.5)
    with pytest.raises(OutputCheckError, match="answered 1 of 2 samples"):
        judging.check_hosted(_hosted(answered=1), min_agreement=0.5)


def test_a_hosted_model_must_agree_with_its_labels() -> None:
    """As much as a model that runs here; without labels there is nothing to agree with."""
    with pytest.raises(OutputCheckError, match=r"agrees with 40\.0% of the labels, less than the 50\.0%"):
        judging.check_hosted(_hosted(agreement=0.4), min_agreement=0.5)
    judging.check_hosted(_hosted(agreement=None), min_agreement=0.5)


def test_what_could_not_be_learned_is_no_verdict() -> None:
    """A provider whose inference is down says nothing about the model."""
    judging.check_hosted(_hosted(answered=0, agreement=0.0, inconclusive="unavailable"), min_agreement=0.5)


def _hosted(**changes: object) -> HostedReport:
    facts = {"model_id": "m", "asked": 2, "answered": 2, "agreement": 0.5, "latency_s": 1.0}
    return HostedReport.model_validate({**facts, **changes})
