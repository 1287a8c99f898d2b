"""The emulated API on the wire: paths, envelopes, errors, roles, limits, in each dialect."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from sandbox.client import SandboxAccount
from sandbox.server import SandboxServer
from tests.waiting import eventually

UNKNOWN = "00000000-0000-4000-8000-000000000000"
Ready = Callable[..., tuple[SandboxAccount, httpx.Client]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    """A sandbox for the tests of this file."""
    with SandboxServer(tmp_path_factory.mktemp("home")) as running:
        yield running


@pytest.fixture
def ready(server: SandboxServer) -> Iterator[Ready]:
    """Make an account with a dataset "ds" of six images and, unless told otherwise, a finished export "e"."""
    clients: list[Any] = []

    def make(*, images: int = 6, export: bool = True, **settings: Any) -> tuple[SandboxAccount, httpx.Client]:
        account = server.new_account(**{"engine": "scripted", **settings})
        account.add_dataset("ds", count=images, size=64)
        manager = account.http(timeout=10)
        http = manager.__enter__()
        clients.append(manager)
        if export:
            make_export(http, "e")
        return account, http

    yield make
    for manager in clients:
        manager.__exit__(None, None, None)


def make_export(http: httpx.Client, name: str, **changes: Any) -> dict[str, Any]:
    """Create an export and wait until it has ended."""
    body = {"dataset_name": "ds", "name": name, "format": "pictograph", "include_images": True, **changes}
    answer = http.post("/exports/", json=body)
    assert answer.status_code == 201, answer.text

    def ended() -> dict[str, Any]:
        listed = item(http.get("/exports/", params={"dataset_name": "ds"}), "exports")
        export = next(row for row in listed if row["name"] == name)
        return dict(export) if export["status"] in ("completed", "failed") else {}

    return eventually(ended, f"the end of export {name!r}")


def item(answer: httpx.Response, key: str) -> Any:
    """Return what a body wraps, in either envelope."""
    assert answer.is_success, answer.text
    body = answer.json()
    return body[key] if key in body else body["data"]


def order(**changes: Any) -> dict[str, Any]:
    """Return the body of a create."""
    return {
        "dataset_name": "ds",
        "export_name": "e",
        "pipeline_type": "yolox",
        "name": "r",
        "gpu_type": "a10g",
        "config": {},
        **changes,
    }


@pytest.mark.parametrize(
    ("dialect", "single", "listed"),
    [
        ("v1", {"training_run"}, {"training_runs"}),
        ("v2", {"data"}, {"data", "pagination"}),
        ("both", {"data", "training_run"}, {"data", "pagination", "training_runs"}),
    ],
)
def test_each_dialect_has_its_envelope(ready: Ready, dialect: str, single: set[str], listed: set[str]) -> None:
    """One run and a list of runs are wrapped as the dialect wraps them, the union having both."""
    _, http = ready(dialect=dialect)
    created = http.post("/training/", json=order())
    assert set(created.json()) == single
    assert set(http.get("/training/").json()) == listed


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_paths_of_the_other_era_do_not_exist(ready: Ready, dialect: str) -> None:
    """An account of one era gets 404 on the other's paths, and answers on its own."""
    _, http = ready(dialect=dialect)
    old = ["/datasets/by-name/ds", "/exports/ds/e", "/exports/ds/e/download"]
    new = [
        "/exports/e?dataset=ds",
        "/exports/e/download?dataset=ds",
        "/jobs",
        "/notifications",
        "/datasets/ds/download",
    ]
    mine, other = (old, new) if dialect == "v1" else (new, old)
    assert [http.get(path).status_code for path in mine] == [200] * len(mine)
    assert [http.get(path).status_code for path in other] == [404] * len(other)


def test_the_old_dialect_takes_ids_alone(ready: Ready) -> None:
    """In v1 a run or dataset is addressed by id; a name is refused with 422."""
    _, http = ready(dialect="v1")
    run = item(http.post("/training/", json=order(name="named")), "training_run")
    assert http.get(f"/training/{run['id']}").status_code == 200
    assert http.get("/training/named").status_code == 422
    assert http.get("/datasets/ds").status_code == 422


def test_a_name_means_the_most_recent_run(ready: Ready) -> None:
    """Names are not unique: looking one up finds the newest."""
    _, http = ready(dialect="v2")
    ids = [item(http.post("/training/", json=order(name="twin")), "training_run")["id"] for _ in range(2)]
    assert item(http.get("/training/twin"), "training_run")["id"] == ids[1]
    assert [run["id"] for run in item(http.get("/training/"), "training_runs")] == ids[::-1]


def test_an_export_called_download_is_found_by_the_old_address(ready: Ready) -> None:
    """Where the paths of both eras collide, ?dataset= or an id tells them apart."""
    _, http = ready(dialect="both")
    export = make_export(http, "download")
    assert item(http.get("/exports/ds/download"), "export")["id"] == export["id"]
    assert "download_url" in http.get("/exports/e/download", params={"dataset": "ds"}).json()
    assert "download_url" in http.get(f"/exports/{export['id']}/download").json()


def test_a_missing_slash_is_answered_with_307(ready: Ready) -> None:
    """Collections carry a trailing slash; without it the server points there and does nothing."""
    account, http = ready(dialect="both")
    answer = http.post("/training", json=order())
    assert answer.status_code == 307
    assert answer.headers["location"].endswith("/api/v1/developer/training/")
    assert http.get("/credits/balance/").status_code == 307
    assert account.bill()["started_runs"] == 0


def test_only_the_api_key_header_opens_the_door(ready: Ready) -> None:
    """No key, a wrong key and a Bearer token are refused with 401; surrounding spaces do not matter."""
    account, _ = ready(export=False)
    url = f"{account.url}/api/v1/developer/credits/balance"
    refused = [{}, {"X-API-Key": "pk_live_wrong"}, {"Authorization": f"Bearer {account.api_key}"}]
    assert [httpx.get(url, headers=headers, trust_env=False).status_code for headers in refused] == [401, 401, 401]
    assert httpx.get(url, headers={"X-API-Key": account.api_key}, trust_env=False).status_code == 200
    body = httpx.get(url, trust_env=False).json()
    assert body["error"]["code"] == "unauthorized"
    assert isinstance(body["detail"], str)


def test_error_bodies_follow_the_dialect(ready: Ready) -> None:
    """v1 answers detail alone; v2 an error object with a code, and the old detail beside it."""
    _, old = ready(dialect="v1", export=False)
    _, new = ready(dialect="v2", export=False)
    assert set(old.get(f"/models/{UNKNOWN}").json()) == {"detail"}
    body = new.get("/models/nobody").json()
    assert body["error"]["code"] == "not_found"
    assert "nobody" in body["error"]["message"]
    assert body["detail"] == body["error"]["message"]
    fields = old.post("/training/", json={"dataset_name": "ds"}).json()["detail"]
    assert ["body", "export_name"] in [field["loc"] for field in fields]
    assert set(new.get("/nowhere").json()) == {"error", "detail"}
    assert old.put("/training/").status_code == 405


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"dataset_name": "nope"}, 404, "nope"),
        ({"export_name": "nope"}, 404, "nope"),
        ({"pipeline_type": "resnet"}, 422, "resnet"),
        ({"pipeline_type": "detectron2"}, 422, "detectron2"),
        ({"gpu_type": "tpu"}, 422, "tpu"),
        ({"name": ""}, 422, "name"),
        ({"name": "x" * 101}, 422, "name"),
        ({"config": {"epochs": 0}}, 422, "epochs"),
        ({"config": {"_pictograph": {"pipeline": "classification"}}}, 400, "classification"),
        ({"version_of_model_id": UNKNOWN}, 404, UNKNOWN),
    ],
)
def test_a_training_that_cannot_be_is_refused(ready: Ready, changes: dict[str, Any], status: int, words: str) -> None:
    """Every wrong order is refused with its status and a message that names the culprit, and starts nothing."""
    account, http = ready(dialect="v2")
    answer = http.post("/training/", json=order(**changes))
    assert (answer.status_code, words in answer.text) == (status, True)
    assert account.bill()["started_runs"] == 0


@pytest.mark.parametrize("text", ["NaN", "1e999", '"\\ud800"', "[" * 200 + "]" * 200])
def test_a_config_that_no_answer_could_repeat(ready: Ready, text: str) -> None:
    """It is refused before anything is started or charged, and the lists go on."""
    account, http = ready()
    body = json.dumps(order(config={"odd": 77})).replace("77", text)
    answers = [
        http.post(path, content=body, headers={"content-type": "application/json"})
        for path in ("/training/", "/training/quote")
    ]
    assert [answer.status_code for answer in answers] == [422, 422]
    assert "config" in answers[0].text
    assert item(http.get("/training/"), "training_runs") == []
    assert (account.bill()["started_runs"], account.bill()["charged"]) == (0, 0)


@pytest.mark.parametrize(
    "path", ["/training/", "/exports/", "/models/", "/datasets/", "/jobs", "/notifications", "/credits/history"]
)
def test_an_offset_beyond_any_row(ready: Ready, path: str) -> None:
    """What the store cannot count to is refused, the largest that it can gives an empty page."""
    _, http = ready(export=False)
    assert http.get(path, params={"offset": 2**63 - 1}).status_code == 200
    assert http.get(path, params={"offset": 2**63}).status_code == 422


def test_metrics_of_a_script_must_be_json(ready: Ready) -> None:
    """They would be on every later answer."""
    account, _ = ready(export=False)
    body = '{"script": {"steps": [{"status": "running", "for_s": 1, "metrics": {"loss": NaN}}]}}'
    sent = {"content": body, "headers": {"X-API-Key": account.api_key, "content-type": "application/json"}}
    assert httpx.patch(f"{account.url}/_sandbox/account", trust_env=False, **sent).status_code == 422  # type: ignore[arg-type]


def test_a_pinned_version_is_current_and_not_the_latest(ready: Ready) -> None:
    """The two are different facts, on both lists of a model's versions."""
    _, http = ready(script={"steps": [{"status": "completed"}]}, role="owner")
    first = item(http.post("/training/", json=order()), "training_run")
    model_id = item(http.get(f"/training/{first['id']}"), "training_run")["model_id"]
    http.post("/training/", json=order(name="second", version_of_model_id=model_id))
    listed = [row["version_id"] for row in http.get(f"/models/{model_id}/versions").json()["data"]["versions"]]
    assert http.patch(f"/models/{model_id}/current-version", json={"version_id": listed[1]}).status_code == 200
    for path in ("versions", "files"):
        rows = http.get(f"/models/{model_id}/{path}").json()["data"]["versions"]
        assert [(row["version_id"], row["is_latest"], row["is_current"]) for row in rows] == [
            (listed[0], True, False),
            (listed[1], False, True),
        ]


def test_an_export_must_be_completed_first(ready: Ready) -> None:
    """Training on an export that is still pending answers 400 with the current status."""
    _, http = ready(dialect="v2", export=False, export_pending_s=60)
    http.post("/exports/", json={"dataset_name": "ds", "name": "slow"})
    answer = http.post("/training/", json=order(export_name="slow"))
    assert answer.status_code == 400
    assert "current status: pending" in answer.json()["error"]["message"]
    assert http.get("/exports/slow/download", params={"dataset": "ds"}).status_code == 400


def test_the_smallest_export_is_a_matter_of_dialect(ready: Ready) -> None:
    """Four images are too few for v1 and enough for v2."""
    _, old = ready(dialect="v1", images=4)
    _, new = ready(dialect="v2", images=4)
    refused = old.post("/training/", json=order())
    assert refused.status_code == 422
    assert "at least 5" in refused.text
    assert new.post("/training/", json=order()).status_code == 201


def test_pipelines_without_a_local_trainer_are_refused_by_the_real_engine(ready: Ready) -> None:
    """What cannot be trained here is said at create; the scripted engine takes it."""
    account, http = ready(dialect="v2", engine="real")
    answer = http.post("/training/", json=order(pipeline_type="rfdetr_keypoint"))
    assert answer.status_code == 422
    assert "not trainable in the sandbox yet" in answer.text
    account.configure(engine="scripted")
    assert http.post("/training/", json=order(pipeline_type="rfdetr_keypoint")).status_code == 201


def test_too_little_money_answers_402_in_the_form_of_the_dialect(ready: Ready) -> None:
    """The amounts are nested in detail for v1 credits, and in error.details in micro-USD for v2."""
    _, old = ready(dialect="v1", billing="credits", balance=249)
    answer = old.post("/training/", json=order(config={"epochs": 50}))
    assert answer.status_code == 402
    detail = answer.json()["detail"]
    assert (detail["required"], detail["remaining"], detail["unit"]) == (250, 249, "credits")
    _, new = ready(dialect="v2", balance=1_999_999)
    details = new.post("/training/", json=order()).json()["error"]["details"]
    assert (details["required_micro_usd"], details["remaining_micro_usd"]) == (2_000_000, 1_999_999)


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("viewer", [200, 403, 403]), ("member", [200, 201, 403]), ("admin", [200, 201, 204]), ("owner", [200, 201, 204])],
)
def test_roles_open_what_the_documents_say(ready: Ready, role: str, allowed: list[int]) -> None:
    """Viewers read and quote, members start, admins delete; a refusal names both roles."""
    account, http = ready(dialect="v2")
    account.configure(role=role)
    body = order()
    quoted = http.post("/training/quote", json={key: body[key] for key in body if key != "name"})
    answers = [quoted, http.post("/training/", json=body), http.delete("/exports/e", params={"dataset": "ds"})]
    assert [answer.status_code for answer in answers] == allowed
    for answer in answers:
        if answer.status_code == 403:
            assert answer.json()["error"]["details"]["current_role"] == role


def test_accounts_do_not_see_each_other(ready: Ready) -> None:
    """Another account's run is a 404, exactly as one that never was."""
    _, mine = ready(dialect="both")
    _, other = ready(dialect="both", export=False)
    run = item(mine.post("/training/", json=order()), "training_run")
    seen, never = other.get(f"/training/{run['id']}"), other.get(f"/training/{UNKNOWN}")
    assert (seen.status_code, never.status_code) == (404, 404)
    assert seen.json()["error"]["message"].replace(run["id"], UNKNOWN) == never.json()["error"]["message"]
    assert item(other.get("/training/"), "training_runs") == []


def test_every_answer_carries_its_own_request_id(ready: Ready) -> None:
    """Successes, errors and redirects can be told apart by X-Request-Id, and the log knows them."""
    account, http = ready(export=False)
    answers = [http.get("/credits/balance"), http.get("/models/nobody"), http.get("/models")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert [entry["request_id"] for entry in account.requests()[-3:]] == ids
    assert len(set(ids)) == 3


def test_the_request_log_keeps_what_was_sent_and_no_key(ready: Ready) -> None:
    """Method, path, query, headers, body and status are kept; of the key only the last four characters."""
    account, http = ready(export=False)
    http.post("/training/", json=order(), headers={"Idempotency-Key": "k1"})
    entry = account.requests()[-1]
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/api/v1/developer/training/", 404)
    assert '"yolox"' in entry["body"]
    assert entry["headers"]["idempotency-key"] == "k1"
    assert entry["headers"]["x-api-key"] == "…" + account.api_key[-4:]
    assert account.api_key not in str(account.requests())


def test_exports_hold_what_their_filters_let_through(ready: Ready) -> None:
    """A class filter narrows the export; a status word that is no stage completes with nothing, without an error."""
    _, http = ready(images=30)
    everything = make_export(http, "all-images")
    stops = make_export(http, "stops", class_filter=["stop"])
    empty = make_export(http, "empty", status_filter="in_progress")
    assert everything["image_count"] == 30
    assert 0 < stops["image_count"] <= 30
    assert stops["annotation_count"] < everything["annotation_count"]
    assert (empty["status"], empty["image_count"], empty["error_message"]) == ("completed", 0, None)


def test_export_conflicts(ready: Ready) -> None:
    """A second export of a name, and any export of a cold dataset, answer 409."""
    account, http = ready(dialect="v2")
    again = http.post("/exports/", json={"dataset_name": "ds", "name": "e"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    account.add_dataset("ice", count=1, size=64, cold=True)
    cold = http.post("/exports/", json={"dataset_name": "ice", "name": "e"})
    assert (cold.status_code, cold.json()["error"]["code"]) == (409, "dataset_cold")


def test_an_export_that_fails_says_why(ready: Ready) -> None:
    """The account's choice of reason is the export's."""
    _, http = ready(dialect="v2", export=False, export_error="disk full")
    failed = make_export(http, "broken")
    assert (failed["status"], failed["error_message"]) == ("failed", "disk full")


def test_the_control_api_answers_this_machine_only(server: SandboxServer) -> None:
    """A request that reaches the port under another host name is refused."""
    url = f"{server.url}/_sandbox/health"
    assert httpx.get(url, trust_env=False).json()["status"] == "ok"
    assert httpx.get(url, headers={"Host": "evil.example"}, trust_env=False).status_code == 403


def test_a_setting_that_does_not_exist_is_refused(server: SandboxServer) -> None:
    """Misspelt settings are errors when an account is made and when it is changed."""
    with pytest.raises(RuntimeError, match="dialekt"):
        server.new_account(dialekt="v1")
    account = server.new_account()
    with pytest.raises(RuntimeError, match="role"):
        account.configure(role="emperor")
