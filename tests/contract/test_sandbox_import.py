"""A person's own data through `python -m sandbox import`, the vendor's API, an export and a training."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from sandbox.client import SandboxAccount, new_account
from sandbox.launch import LOG_FILE, find_running
from tests.waiting import end, eventually

ROOT = Path(__file__).parents[2]
SIDE = 64
KEY = "pk_live_sandbox_none"
SPLITS = {"train": 8, "val": 2, "test": 2}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a running sandbox without the built-in datasets."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "default-key").write_text(KEY)
    with (folder / LOG_FILE).open("ab") as log:
        command = [sys.executable, "-m", "sandbox", "serve", "--home", str(folder)]
        child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        eventually(lambda: find_running(folder), "the server")
        yield folder
    finally:
        end(child)


@pytest.fixture(scope="module")
def account(home: Path) -> SandboxAccount:
    """The account that the command line uses."""
    found = find_running(home)
    assert found is not None
    return new_account(found.url, api_key=KEY, engine="real")


@pytest.fixture(scope="module")
def http(account: SandboxAccount) -> Iterator[httpx.Client]:
    """A client of the vendor's API."""
    with account.http(timeout=20) as client:
        yield client


def command(home: Path, source: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m sandbox import`."""
    words = [sys.executable, "-m", "sandbox", "import", str(source), "--name", name, "--home", str(home)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


def drawn(number: int) -> tuple[Image.Image, np.ndarray]:  # type: ignore[type-arg]
    """Return a picture with a red frame (1) around a hole and a green block (2), and its mask."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    x, y = (int(value) for value in rng.integers(2, 10, 2))
    mask[y : y + 24, x : x + 24], mask[y + 6 : y + 18, x + 6 : x + 18] = 1, 0
    mask[y + 32 : y + 48, x + 30 : x + 50] = 2
    pixels[mask == 1], pixels[mask == 2] = (220, 30, 30), (30, 200, 30)
    return Image.fromarray(pixels), mask


def pictures() -> Iterator[tuple[str, str, Image.Image, np.ndarray]]:  # type: ignore[type-arg]
    """Yield split, stem, picture and mask of each picture."""
    numbers = iter(range(100))
    for split, count in SPLITS.items():
        for number in (next(numbers) for _ in range(count)):
            yield split, f"p{number:02d}", *drawn(number)


def box_of(mask: np.ndarray, value: int) -> list[int]:  # type: ignore[type-arg]
    """Return x, y, width, height of a value's pixels."""
    ys, xs = np.nonzero(mask == value)
    return [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]


def make_masks(root: Path) -> None:
    """Write masks by split, with names."""
    for split, stem, picture, mask in pictures():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        picture.save(root / split / "images" / f"{stem}.jpg", quality=95)
        Image.fromarray(mask).save(root / split / "masks" / f"{stem}.png")
    (root / "classes.txt").write_text("background\nframe\nblock\n")


def make_yolo(root: Path) -> None:
    """Write boxes by split; a third class is shown by a test picture alone."""
    for split, stem, picture, mask in pictures():
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        picture.save(root / "images" / split / f"{stem}.png")
        lines = []
        for value in (1, 2):
            x, y, w, h = (side / SIDE for side in box_of(mask, value))
            lines.append(f"{value - 1} {x + w / 2} {y + h / 2} {w} {h}")
        if stem == "p11":
            lines.append("2 0.9 0.9 0.1 0.1")
        (root / "labels" / split / f"{stem}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\nnames: [frame, block, rare]\n"
    )


def make_coco(root: Path) -> None:
    """Write one COCO file a split beside its pictures."""
    categories = [{"id": 1, "name": "frame"}, {"id": 2, "name": "block"}]
    documents: dict[str, Any] = {s: {"images": [], "annotations": [], "categories": categories} for s in SPLITS}
    for split, stem, picture, mask in pictures():
        (root / split).mkdir(parents=True, exist_ok=True)
        picture.save(root / split / f"{stem}.png")
        documents[split]["images"].append({"id": stem, "file_name": f"{stem}.png"})
        documents[split]["annotations"] += [
            {"id": f"{stem}{value}", "image_id": stem, "category_id": value, "bbox": box_of(mask, value)}
            for value in (1, 2)
        ]
    for split, document in documents.items():
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))


def make_classes(root: Path) -> None:
    """Write one folder a class, by split."""
    for split, stem, picture, _ in pictures():
        folder = root / split / ("even" if int(stem[1:]) % 2 == 0 else "odd")
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{stem}.png")


MAKERS = {"masks": make_masks, "YOLO": make_yolo, "COCO": make_coco, "class folders": make_classes}
CLASSES = {"masks": {"frame", "block"}, "YOLO": {"frame", "block", "rare"}, "COCO": {"frame", "block"}}


def dataset(http: httpx.Client, name: str) -> dict[str, Any]:
    """Return a dataset with its images, as the vendor's API shows it."""
    return dict(http.get(f"/datasets/{name}?include_images=true").json()["data"])


def export(http: httpx.Client, name: str) -> bytes:
    """Make an export and return its ZIP."""
    order = {"dataset_name": name, "name": "e", "include_images": True}
    made = http.post("/exports/", json=order).json()["data"]
    eventually(lambda: http.get(f"/exports/{made['id']}").json()["data"]["status"] == "completed", "the export")
    link = http.get(f"/exports/{made['id']}/download").json()["data"]["download_url"]
    return httpx.get(link, trust_env=False).content


def train(http: httpx.Client, name: str, kind: str, epochs: int) -> dict[str, Any]:
    """Train on an export and return the run when it has ended well."""
    body = {"dataset_name": name, "export_name": "e", "pipeline_type": kind, "name": f"{name}-{kind}"}
    answer = http.post("/training/", json={**body, "config": {"epochs": epochs, "batch_size": 4, "image_size": SIDE}})
    assert answer.status_code == 201, answer.text
    run = answer.json()["data"]["id"]

    def ended() -> dict[str, Any] | None:
        seen: dict[str, Any] = http.get(f"/training/{run}").json()["data"]
        return seen if seen["status"] in {"completed", "failed"} else None

    view = eventually(ended, "the training", within_s=120)
    assert view["status"] == "completed", view["error_message"]
    return dict(view)


@pytest.mark.parametrize("layout", MAKERS)
def test_every_layout_is_a_dataset_of_the_vendors_api(
    home: Path, http: httpx.Client, tmp_path: Path, layout: str
) -> None:
    """The command says what it read; the API shows every image with its split and number of labels, and the classes."""
    MAKERS[layout](tmp_path)
    name = layout.replace(" ", "-")
    done = command(home, tmp_path, name)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["layout"], said["image_count"], said["notices"]) == (layout, 12, [])
    shown = dataset(http, name)
    assert shown["image_count"] == shown["completed_image_count"] == 12
    assert {kind["name"] for kind in shown["classes"]} == CLASSES.get(layout, {"even", "odd"})
    splits = [image["split"] for image in shown["images"]]
    assert {split: splits.count(split) for split in SPLITS} == SPLITS
    counts = {image["filename"].partition(".")[0]: image["annotation_count"] for image in shown["images"]}
    each = 1 if layout == "class folders" else 2
    assert counts == {f"p{k:02d}": each + (layout == "YOLO" and k == 11) for k in range(12)}


def test_an_export_of_a_dataset_is_another_dataset(home: Path, http: httpx.Client, tmp_path: Path) -> None:
    """A ZIP downloaded through the API comes back in: the same images, splits, statuses and labels."""
    make_masks(tmp_path / "data")
    assert command(home, tmp_path / "data", "first").returncode == 0
    (tmp_path / "export.zip").write_bytes(export(http, "first"))
    said = json.loads(command(home, tmp_path / "export.zip", "second").stdout)
    assert (said["layout"], said["notices"]) == ("export", [])
    seen = [
        [[image[key] for key in ("filename", "split", "status", "annotation_count", "file_size")] for image in images]
        for images in (dataset(http, name)["images"] for name in ("first", "second"))
    ]
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("entry", "reason"), [("../evil.png", "'../evil.png': its path leaves the folder"), ("notes.txt", "no labelled")]
)
def test_what_cannot_be_used_is_said_in_one_sentence(home: Path, tmp_path: Path, entry: str, reason: str) -> None:
    """Through the control API and out of the command: the reason as it was written, no traceback, no dataset."""
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(entry, "x")
    done = command(home, tmp_path / "bad.zip", "bad")
    assert done.returncode != 0
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_masks_reach_the_trainer_to_the_pixel(home: Path, http: httpx.Client, tmp_path: Path) -> None:
    """The evaluation counts as many labelled pixels of each class as the held-out masks have, holes left out."""
    make_masks(tmp_path)
    assert command(home, tmp_path, "pixels").returncode == 0
    export(http, "pixels")
    metrics = train(http, "pixels", "sm_pytorch", epochs=20)["metrics"]
    held_out = [np.bincount(mask.ravel(), minlength=3) for split, _, _, mask in pictures() if split == "test"]
    background, frame, block = np.sum(held_out, axis=0).tolist()
    # The trainer's classes are sorted: background, block, frame.
    assert [sum(row) for row in metrics["confusion_matrix"]] == [background, block, frame]
    assert metrics["evaluated_images"] == 2
    assert metrics["mIoU"] > 0.5


def test_yolo_boxes_reach_the_trainer(home: Path, http: httpx.Client, tmp_path: Path) -> None:
    """Learned from boxes; the class that a test picture alone shows is left out with the vendor's reason."""
    make_yolo(tmp_path)
    assert command(home, tmp_path, "boxes").returncode == 0
    export(http, "boxes")
    run = train(http, "boxes", "yolox", epochs=40)
    assert set(run["metrics"]["per_class"]) == {"block", "frame"}
    assert run["metrics"]["evaluated_images"] == 2
    assert run["metrics"]["mAP50"] > 0.3
    (warning,) = run["warnings"]
    assert warning["classes"] == [{"name": "rare", "reason": "not_in_train_split"}]
