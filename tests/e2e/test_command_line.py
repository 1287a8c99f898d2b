"""``python -m flows.train_pipeline`` as a user runs it: real processes, a real sandbox, a real training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
from PIL import Image, ImageChops
from pydantic.fields import FieldInfo

from flows.commandline import EXIT_CODES, main
from pipeline.models import Outcome
from pipeline.provider_requests import PictographRequest
from pipeline.requests import TrainConfig, TrainRequest
from sandbox.client import SandboxAccount
from tests.e2e.conftest import QUICK_STEPS, Ground, Rehearsal, address_of, read_json_line


class TestRehearsal:
    """No arguments, no account, no configuration."""

    def test_it_succeeds_and_says_what_it_is(self, demo: Rehearsal) -> None:
        """Exit code 0; the very first line calls it a rehearsal and promises that no real money is spent."""
        assert demo.done.code == 0, demo.done.err
        first = demo.done.out.splitlines()[0]
        assert first.startswith("Rehearsal: ")
        assert "no real money is spent" in first

    def test_it_ends_with_what_counts(self, demo: Rehearsal) -> None:
        """Verdict, money, held-out metric of 0.90 or better, digest, and paths that exist."""
        said = dict(re.findall(r"^(\S.{0,15}?)\s{2,}(.+)$", demo.done.out, re.MULTILINE))
        assert said["Verdict"].startswith("ACCEPTED: ")
        assert re.fullmatch(r"priced at \$\d+\.\d+, charged \$\d+\.\d+", said["Money"])
        metric = re.fullmatch(r"mAP50 (\d\.\d+) on (\d+) held-out images", said["Held-out metric"])
        assert metric is not None, said["Held-out metric"]
        assert float(metric[1]) >= 0.90
        assert int(metric[2]) >= 20
        assert re.fullmatch(r"[0-9a-f]{64}", said["SHA-256"])
        assert (demo.ground.folder / said["Model"]).is_file()
        assert (demo.ground.folder / said["Report"]).is_file()
        assert "must not replace a hosted one" in demo.done.out

    def test_progress_is_shown_while_it_trains(self, demo: Rehearsal) -> None:
        """Percent, epoch, forecast and cost so far, on standard error; no library's warnings between the lines."""
        assert re.search(r"training: running, \d+ %, epoch \d+/\d+, .* to go, \$\d.* so far", demo.done.err)
        strange = [line for line in demo.done.err.splitlines() if not re.match(r"\d\d:\d\d:\d\d \w", line)]
        assert strange == []

    def test_the_files_are_what_the_report_says(self, demo: Rehearsal) -> None:
        """report.json reads back as a RunReport; the model opens, has the announced digest, and is marked sandbox."""
        report = demo.report
        assert report.outcome is Outcome.ACCEPTED
        assert report.request.sandbox
        assert report.artifact is not None
        model = demo.ground.folder / report.artifact.path
        assert model.stat().st_size == report.artifact.size_bytes
        assert report.artifact.sha256 in demo.done.out
        assert "sandbox" in report.artifact.path.parts
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        assert session.get_inputs()[0].shape[1] == 3

    def test_the_report_shows_pictures_that_exist(self, demo: Rehearsal) -> None:
        """Every picture in report.md is a file beside it; overlays really show something on top of the sample."""
        text = (demo.folder / "report.md").read_text(encoding="utf-8")
        shown = [demo.folder / address for address in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)]
        assert demo.folder / "loss.svg" in shown
        assert all(path.is_file() for path in shown)
        assert demo.report.smoke is not None
        results = demo.report.smoke.results
        assert len(results) == demo.report.request.samples
        for result in results:
            assert result.overlay is not None
            assert demo.ground.folder / result.overlay in shown
            with (
                Image.open(demo.ground.folder / result.overlay) as overlay,
                Image.open(demo.folder / "samples" / result.picture) as sample,
            ):
                height = sample.height * overlay.width // sample.width
                drawn, plain = overlay.convert("RGB"), sample.convert("RGB").resize((overlay.width, height))
                difference = ImageChops.difference(drawn.crop((0, 0, overlay.width, height)), plain).convert("L")
            changed = sum(difference.histogram()[64:])
            assert bool(result.predictions) == (changed > 300), (result.picture, changed)


class TestOptions:
    """What the command line offers."""

    def test_help_documents_every_field(self, ground: Ground) -> None:
        """--help exits 0 and shows every field of the request, by its option, with its own sentence."""
        done = ground.run("--help", COLUMNS="300")  # wide enough that no option breaks into its own sentence
        assert done.code == 0
        shown = _squeezed(done.out)
        fields: dict[str, FieldInfo] = {**PictographRequest.model_fields, **TrainConfig.model_fields}
        del fields["config"], fields["provider"]  # flattened; said by the command
        for name, field in fields.items():
            assert f"--{name.replace('_', '-')}" in done.out, name
            assert field.description, name
            assert _squeezed(field.description) in shown, name

    def test_a_bare_json_rehearsal_keeps_its_notice_off_standard_output(
        self, ground: Ground, scripted: Callable[..., SandboxAccount], prefect_server: str
    ) -> None:
        """``--json`` alone is the rehearsal too; the notice goes to standard error."""
        done = ground.run("--json", PREFECT_API_URL=prefect_server, **address_of(scripted(steps=QUICK_STEPS)))
        assert done.code == 0, done.err
        assert read_json_line(done.out)["outcome"] == "accepted"
        assert done.err.startswith("Rehearsal: ")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--dataset", "x", "--samples", "0"), ("--samples '0'", "greater than or equal to 1")),
            (("--dataset", "x", "--gpu", "tpu"), ("tpu", "a10g")),
            (("--pipeline", "yolox"), ("--dataset", "required")),
            (("--dataset", "x", "--epoch", "3"), ("--epoch",)),
            (("--dataset", ""), ("--dataset ''", "at least 1")),
            (("--dataset", "x" * 201), ("--dataset", "at most 200")),
            (("--verbose", "--epochs", "3"), ("--dataset", "required")),
            (("--demo", "letters"), ("--demo", "letters", "digits", "road-signs")),
            (("--demo",), ("--demo",)),
            (("--demo", "digits", "--dataset", "road-signs"), ("--dataset 'road-signs'", "--demo digits", "--sandbox")),
            (("--dataset=digits", "--demo=digits"), ("--dataset 'digits'", "'digits-scenes'")),
            (("--demo", "road-signs", "--no-sandbox"), ("--no-sandbox", "--demo road-signs")),
            (("--demo", "digits", "--samples", "0"), ("--samples '0'", "greater than or equal to 1")),
        ],
    )
    def test_a_mistake_is_one_clear_line(
        self, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: tuple[str, ...]
    ) -> None:
        """Exit code 2, the option, what was given and what is allowed; nothing on standard output."""
        code = main(arguments)
        said = capsys.readouterr()
        assert (code, said.out) == (EXIT_CODES[Outcome.USAGE], "")
        assert len(said.err.splitlines()) == 1
        assert said.err.startswith("error: ")
        for word in words:
            assert word in said.err

    @pytest.mark.parametrize(
        ("arguments", "asked"),
        [
            (("--demo", "digits"), {"dataset": "digits-scenes"}),
            (("--demo", "digits", "--sandbox", "--dataset", "digits-scenes"), {"dataset": "digits-scenes"}),
            (("--demo=road-signs", "--json"), {"dataset": "road-signs"}),
            (("--demo", "digits", "--epochs", "3"), {"dataset": "digits-scenes", "config": TrainConfig(epochs=3)}),
            (("--demo", "digits", "--pipeline", "sm_pytorch"), {"dataset": "digits-scenes", "pipeline": "sm_pytorch"}),
        ],
    )
    def test_a_named_rehearsal_is_a_request_for_the_sandbox(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[str, ...],
        asked: dict[str, object],
    ) -> None:
        """Its data set, always in the sandbox, with whatever else was asked; the notice comes first, beside JSON."""
        requests: list[TrainRequest] = []

        def execute(request: TrainRequest, **_: object) -> int:
            requests.append(request)
            return 0

        monkeypatch.setattr("flows.commandline.execute", execute)
        assert main(arguments) == 0
        assert requests == [PictographRequest(**{"sandbox": True, **asked})]
        said = capsys.readouterr()
        notice, silent = (said.err, said.out) if "--json" in arguments else (said.out, said.err)
        assert notice.startswith("Rehearsal: ")
        assert "no real money is spent" in notice
        assert silent == ""

    def test_without_a_key_a_hosted_run_stops_and_names_the_variable(self, ground: Ground, prefect_server: str) -> None:
        """A real data set name never falls back to the sandbox: exit code 2, and the variable to set."""
        done = ground.run("--dataset", "road-signs", PICTOGRAPH_API_KEY="", PREFECT_API_URL=prefect_server)
        assert done.code == EXIT_CODES[Outcome.USAGE]
        assert "PICTOGRAPH_API_KEY" in done.out
        assert "Traceback" not in done.err


def _squeezed(text: str) -> str:
    """Return only the letters and digits of a text, which frames and line breaks leave alone."""
    return re.sub(r"[^a-z0-9]+", "", text.lower())


def test_nothing_lands_in_the_repository(demo: Rehearsal) -> None:
    """Everything a run writes is under the folder it was started in."""
    assert demo.report.plan is not None
    assert not (Path(__file__).resolve().parents[2] / demo.report.plan.output_dir).exists()
