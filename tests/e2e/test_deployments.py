"""The deployments: made from ``prefect.yaml``, run by a worker and by ``serve``, with a form that refuses nonsense."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml

from deployments.serve import load_deployments
from flows.sweep_runs import sweep_runs
from flows.train_pipeline import train_pipeline
from pipeline.provider_requests import REQUESTS as PROVIDERS
from pipeline.provider_requests import read_request
from pipeline.requests import SweepRequest, TrainConfig
from sandbox.client import SandboxAccount
from tasks.credentials import BLOCKS
from tests.e2e.conftest import QUICK_STEPS, ROOT, RUN_S, address_of
from tests.waiting import eventually

DEFINED = {
    entry["name"]: entry for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
}
REQUESTS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "flows/train_pipeline.py:train_pipeline": (train_pipeline, read_request),
    "flows/sweep_runs.py:sweep_runs": (sweep_runs, SweepRequest.model_validate),
}
"""Each entrypoint's flow, and how its request is read."""
QUICK = {"PREFECT_RUNNER_POLL_FREQUENCY": "1", "PREFECT_WORKER_QUERY_SECONDS": "1"}
"""Look for scheduled runs every second."""


def prefect(api: str, *arguments: str, **environment: str) -> str:
    """Run a ``prefect`` command in the repository, as the README does, and return what it said."""
    command = [sys.executable, "-m", "prefect", *arguments]
    settings = {**os.environ, "PREFECT_API_URL": api, "COLUMNS": "200", **QUICK, **environment}
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=RUN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def find_deployments(api: str) -> dict[str, dict[str, Any]]:
    """Return the server's deployments of our flows, by name."""
    ours = {"flows": {"name": {"any_": ["train-pipeline", "sweep-runs"]}}}
    answer = httpx.post(f"{api}/deployments/filter", json=ours, timeout=30)
    return {entry["name"]: entry for entry in answer.raise_for_status().json()}


def order(api: str, deployment: str, request: dict[str, Any]) -> httpx.Response:
    """Ask the server for a run of a deployment, as the form does; again while its database is busy."""
    body = {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}, "idempotency_key": uuid4().hex}

    def answered() -> httpx.Response | None:
        answer = httpx.post(f"{api}/deployments/{deployment}/create_flow_run", json=body, timeout=30)
        return None if answer.status_code == 503 else answer

    return eventually(lambda: [answer] if (answer := answered()) is not None else [], pause_s=0.2)[0]


def final_state(api: str, run: str) -> dict[str, Any]:
    """Wait for a run's end and return its state."""

    def ended() -> dict[str, Any]:
        state = dict(httpx.get(f"{api}/flow_runs/{run}", timeout=30).json()["state"])
        return state if state["type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} else {}

    return eventually(ended, within_s=120, pause_s=0.2)


@pytest.fixture(scope="module")
def deployed(prefect_server: str) -> dict[str, dict[str, Any]]:
    """What ``prefect deploy --all`` makes of ``prefect.yaml``."""
    prefect(prefect_server, "work-pool", "create", "train-pipeline", "--type", "process")
    prefect(prefect_server, "--no-prompt", "deploy", "--all")
    return find_deployments(prefect_server)


class TestDefinitions:
    """``prefect.yaml``, ``serve.py`` and the flow say the same."""

    @pytest.mark.parametrize("name", DEFINED)
    def test_parameters_fit_the_flow(self, name: str) -> None:
        """Every parameter given is one the flow takes, and a request given there is a valid one."""
        flow, read = REQUESTS[DEFINED[name]["entrypoint"]]
        given = [DEFINED[name], *DEFINED[name].get("triggers", [])]
        for parameters in [one["parameters"] for one in given]:
            assert set(parameters) <= set(inspect.signature(flow.fn).parameters)
            if "request" in parameters:
                read(parameters["request"])

    @pytest.mark.parametrize("provider", PROVIDERS)
    def test_every_provider_has_a_parameter_set(self, provider: str) -> None:
        """A deployment asks each one, spends nothing unasked, and what has prices has a budget that can be kept."""
        name = "nightly" if provider == "pictograph" else provider
        request = read_request(DEFINED[name]["parameters"]["request"])
        request.check()
        assert request.provider == provider
        assert not any(schedule["active"] for schedule in DEFINED[name].get("schedules", []))
        if provider in {"pictograph", "replicate"}:
            assert request.budget_usd is not None
        if provider == "replicate":
            assert request.expected_minutes is not None
        # Prefect cancels a deferred flow run that comes back to a taken slot.
        limit = DEFINED[name].get("concurrency_limit", {})
        assert not (request.wait == "defer" and limit.get("collision_strategy") == "CANCEL_NEW")

    def test_every_definition_is_deployed(self, deployed: dict[str, dict[str, Any]]) -> None:
        """Names, descriptions, parameters and entrypoint arrive as written."""
        assert set(deployed) == set(DEFINED)
        for name, entry in DEFINED.items():
            assert deployed[name]["description"] == entry["description"]
            assert deployed[name]["parameters"] == entry["parameters"]
            assert deployed[name]["entrypoint"] == entry["entrypoint"]
            assert deployed[name]["work_pool_name"] == entry["work_pool"]["name"]

    def test_serving_gives_the_same(self, deployed: dict[str, dict[str, Any]]) -> None:
        """Parameters, schedules, limits and form of ``serve.py`` equal those of ``prefect deploy``."""
        served = {made.name: made for made in load_deployments()}
        assert set(served) == set(deployed)
        for name, made in served.items():
            other = deployed[name]
            assert made.description == other["description"]
            assert made.parameters == other["parameters"]
            assert made._parameter_openapi_schema.model_dump() == other["parameter_openapi_schema"]
            assert (made.concurrency_limit or None) == (other["global_concurrency_limit"] or {}).get("limit")
            options = made.concurrency_options.model_dump(mode="json") if made.concurrency_options else None
            assert options == other["concurrency_options"]
            ours = [(one.schedule.cron, one.schedule.timezone, one.active, one.slug) for one in made.schedules or []]
            theirs = [
                (one["schedule"]["cron"], one["schedule"]["timezone"], one["active"], one["slug"])
                for one in other["schedules"]
            ]
            assert ours == theirs

    def test_served_triggers_are_those_of_the_file(
        self, deployed: dict[str, dict[str, Any]], prefect_server: str
    ) -> None:
        """The automations that serving would make equal those that deploying has made, deployment by deployment."""
        for made in load_deployments():
            for trigger in made.triggers:
                trigger.set_deployment_id(deployed[made.name]["id"])
            ours = [trigger.as_automation().model_dump(mode="json") for trigger in made.triggers]
            theirs = automations_of(prefect_server, deployed[made.name]["id"])
            assert len(ours) == len(theirs) == len(DEFINED[made.name].get("triggers", []))
            for mine, other in zip(ours, theirs, strict=True):
                for key in ("name", "enabled"):
                    assert mine[key] == other[key]
                for key in ("expect", "match", "match_related", "posture", "threshold", "within", "for_each"):
                    assert _sorted(mine["trigger"][key]) == _sorted(other["trigger"][key]), key
                assert [one["parameters"] for one in mine["actions"]] == [one["parameters"] for one in other["actions"]]


def automations_of(api: str, deployment: str) -> list[dict[str, Any]]:
    """Return the automations that belong to a deployment."""
    answer = httpx.get(f"{api}/automations/related-to/prefect.deployment.{deployment}", timeout=30)
    return list(answer.raise_for_status().json())


def _sorted(value: Any) -> Any:
    """Return a list in order: Prefect keeps sets there."""
    return sorted(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else value


class TestForm:
    """What the run form knows."""

    def test_every_field_is_described(self, deployed: dict[str, dict[str, Any]]) -> None:
        """Each field of the request carries its sentence, and where it applies its choices and limits."""
        definitions = {
            name: definition
            for deployment in ("manual", "sweep")
            for name, definition in deployed[deployment]["parameter_openapi_schema"]["definitions"].items()
        }
        for model in (*PROVIDERS.values(), TrainConfig, SweepRequest):
            shown = definitions[model.__name__]["properties"]
            assert set(shown) == set(model.model_fields)
            for name, field in model.model_fields.items():
                assert shown[name]["description"] == field.description
        shown = definitions["PictographRequest"]["properties"]
        assert shown["gpu"]["enum"] == ["a10g", "a100", "h100", "auto"]
        assert (shown["samples"]["minimum"], shown["samples"]["maximum"]) == (1, 64)
        assert shown["dataset"]["minLength"] == 1
        assert definitions["PictographRequest"]["required"] == ["dataset"]
        assert definitions["PhotogptRequest"]["required"] == ["dataset", "age", "gender"]

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({}, "'dataset' is a required property"),
            ({"dataset": ""}, "'request.dataset'"),
            ({"dataset": "x", "gpu": "tpu"}, "'tpu' is not one of ['a10g'"),
            ({"dataset": "x", "samples": 0}, "'request.samples'"),
            ({"dataset": "x", "gpus": 1}, "'gpus' was unexpected"),
            ({"dataset": "x", "provider": "bluesight", "samples": 17}, "17 is greater than the maximum of 16"),
            ({"dataset": "x", "provider": "bluesight", "gpu": "a10g"}, "'gpu' was unexpected"),
            ({"dataset": "x", "task": "classification"}, "'task' was unexpected"),
            ({"dataset": "x", "provider": "photogpt", "age": 17, "gender": "Male"}, "'request.age'"),
        ],
    )
    def test_a_wrong_value_is_refused_before_a_run_exists(
        self, wrong: dict[str, Any], said: str, deployed: dict[str, dict[str, Any]], prefect_server: str
    ) -> None:
        """The server answers 409, tells what is wrong for the provider that is meant, and makes no run."""
        before = _count_runs(prefect_server)
        answer = order(prefect_server, deployed["manual"]["id"], wrong)
        assert answer.status_code == 409, answer.text
        assert said in answer.json()["detail"]
        assert "any of the given schemas" not in answer.text
        assert _count_runs(prefect_server) == before

    def test_every_kind_of_credentials_is_offered_once_registered(self, prefect_server: str) -> None:
        """The README's command makes each provider's kind of block known to the server."""
        prefect(prefect_server, "block", "register", "-m", "tasks.credentials")
        for kind in BLOCKS.values():
            answer = httpx.get(f"{prefect_server}/block_types/slug/{kind._block_type_slug}", timeout=30)
            assert answer.raise_for_status().json()["name"] == kind._block_type_name

    def test_the_nightly_schedule_waits_to_be_switched_on(self, deployed: dict[str, dict[str, Any]]) -> None:
        """One schedule, at two in the morning, inactive; never two runs at a time; none on the manual one.

        The sweep's, every quarter of an hour, waits as well.
        """
        (schedule,) = deployed["nightly"]["schedules"]
        assert schedule["schedule"]["cron"] == "0 2 * * *"
        assert schedule["active"] is False
        assert deployed["nightly"]["global_concurrency_limit"]["limit"] == 1
        assert deployed["nightly"]["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
        assert deployed["manual"]["schedules"] == deployed["reconcile"]["schedules"] == []
        (schedule,) = deployed["sweep"]["schedules"]
        assert (schedule["schedule"]["cron"], schedule["active"]) == ("*/15 * * * *", False)


def _count_runs(api: str) -> int:
    return int(httpx.post(f"{api}/flow_runs/count", json={}, timeout=30).raise_for_status().json())


class TestTriggers:
    """What Prefect starts by itself."""

    @pytest.mark.parametrize("end", ["CANCELLED", "CRASHED"])
    def test_a_flow_run_without_a_process_is_reconciled(
        self, end: str, deployed: dict[str, dict[str, Any]], prefect_server: str
    ) -> None:
        """Cancelled or crashed while nobody carries it out: a run of ``reconcile`` that is told which one it was."""
        run = order(prefect_server, deployed["manual"]["id"], {"dataset": "x"}).json()["id"]
        state = {"state": {"type": end, "name": end.title()}, "force": True}
        httpx.post(f"{prefect_server}/flow_runs/{run}/set_state", json=state, timeout=30).raise_for_status()
        wanted = {"deployments": {"id": {"any_": [deployed["reconcile"]["id"]]}}}

        def started() -> list[dict[str, Any]]:
            return list(httpx.post(f"{prefect_server}/flow_runs/filter", json=wanted, timeout=30).json())

        (made,) = eventually(started, pause_s=0.1)
        httpx.delete(f"{prefect_server}/flow_runs/{made['id']}", timeout=30).raise_for_status()  # no worker's business
        asked = SweepRequest.model_validate(made["parameters"]["request"])
        assert asked == SweepRequest(flow_run=f"prefect.flow-run.{run}", flow_gone="notify", uncollected="notify")


class TestRuns:
    """Runs started through the API end like runs started by hand."""

    def test_a_worker_runs_it(
        self,
        deployed: dict[str, dict[str, Any]],
        prefect_server: str,
        scripted: Callable[..., SandboxAccount],
        tmp_path: Path,
    ) -> None:
        """Run by a worker with the parameters asked for: Completed, with a model; a bad end is named and explained."""
        request = {"dataset": "road-signs", "sandbox": True, "output_dir": str(tmp_path), "poll_interval_s": 0.1}
        answer = order(prefect_server, deployed["manual"]["id"], request)
        assert answer.status_code == 201, answer.text
        refused = order(prefect_server, deployed["manual"]["id"], {**request, "dataset": "no-such-signs"})
        account = scripted(steps=QUICK_STEPS)
        said = prefect(
            prefect_server, "worker", "start", "--pool", "train-pipeline", "--run-once", **address_of(account)
        )
        state = final_state(prefect_server, answer.json()["id"])
        assert (state["type"], state["name"]) == ("COMPLETED", "Completed"), (state, said)
        assert len(list(tmp_path.glob("sandbox/road-signs-yolox-*/model.onnx"))) == 1
        state = final_state(prefect_server, refused.json()["id"])
        assert (state["type"], state["name"]) == ("FAILED", "InvalidRequest"), (state, said)
        assert "usage: " in said
        assert "Unexpected result" not in said

    def test_serving_runs_it(
        self, prefect_server: str, scripted: Callable[..., SandboxAccount], tmp_path: Path
    ) -> None:
        """``python -m deployments.serve`` offers every deployment and runs what is asked of them."""
        account = scripted(steps=QUICK_STEPS)
        said = tmp_path / "said.txt"
        with _serving(prefect_server, address_of(account), said):
            eventually(lambda: all(f"/{name}" in said.read_text(encoding="utf-8") for name in DEFINED))
            manual = find_deployments(prefect_server)["manual"]
            request = {"dataset": "road-signs", "sandbox": True, "output_dir": str(tmp_path), "poll_interval_s": 0.1}
            answer = order(prefect_server, manual["id"], request)
            assert answer.status_code == 201, answer.text
            state = final_state(prefect_server, answer.json()["id"])
        assert (state["type"], state["name"]) == ("COMPLETED", "Completed"), (state, said.read_text(encoding="utf-8"))
        assert len(account.bill()["runs"]) == 1


@contextmanager
def _serving(api: str, address: dict[str, str], said: Path) -> Iterator[None]:
    settings = {**os.environ, "PREFECT_API_URL": api, "PYTHONUNBUFFERED": "1", "COLUMNS": "120", **QUICK, **address}
    with said.open("wb") as out:
        command = [sys.executable, "-m", "deployments.serve"]
        process = subprocess.Popen(command, cwd=ROOT, env=settings, stdout=out, stderr=out)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()
