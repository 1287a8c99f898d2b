"""What a training on this machine costs and gives: every pipeline, at its default budget, on drawn road signs.

Each training is a child process of one thread, one after the other. Its metric is measured on pictures it never saw,
and the published client reads the exported model on the same pictures: the share of its answers that are right
(precision) and of the labelled objects it finds (recall), by box IoU 0.5. Needs the extras `sandbox` and `test`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.machine import describe_machine
from sandbox.exportzip import write_export
from sandbox.roadsigns import road_signs
from sandbox.training import jobs
from sandbox.training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from sandbox.datasets import LabelledImage, Shape, Split

MOST_CPU_S = 30.0
"""A training may cost so much processor time, start and export included."""
LEAST_CLIENT = 0.80
"""Least precision and recall of the published client's reading."""
FLOORS = {
    "yolox": ("mAP50", 0.95),
    "rfdetr_detection": ("mAP50", 0.90),
    "rfdetr_segmentation": ("mAP50", 0.90),
    "detectron2": ("mAP50", 0.90),
    "sm_pytorch": ("mIoU", 0.85),
    "classification": ("top1", 0.93),
}
"""Each pipeline's metric and what it must reach with every seed."""
START, END = "<!-- training figures: begin -->", "<!-- training figures: end -->"
_MATCH_IOU = 0.5
_LATENCY_ROUNDS = 50


@dataclass(frozen=True)
class Budget:
    """What a training gets: pictures by split, how they are drawn, and the config of its request."""

    splits: tuple[tuple[Split, int], ...] = (("train", 160), ("val", 20), ("test", 60))
    side: int = 128
    """Height and width of the drawn pictures."""
    single: bool = False
    """One large sign on each picture, which is learnt sooner; a classifier's always are so."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """What the request asks for beside the defaults."""


FULL = Budget()
"""What the published figures are measured with."""


@dataclass(frozen=True)
class Figures:
    """One training, measured."""

    kind: str
    seed: int
    wall_s: float
    cpu_s: float
    peak_bytes: int
    metric: float
    precision: float
    recall: float
    model_bytes: int
    latency_s: float

    @property
    def misses(self) -> list[str]:
        """What is worse than it must be."""
        name, floor = FLOORS[self.kind]
        checks = (
            (self.metric >= floor, f"{name} {self.metric:.3f} is below {floor}"),
            (self.cpu_s <= MOST_CPU_S, f"{self.cpu_s:.1f} CPU-seconds are more than {MOST_CPU_S:g}"),
            (self.precision >= LEAST_CLIENT, f"the client's precision {self.precision:.2f} is below {LEAST_CLIENT}"),
            (self.recall >= LEAST_CLIENT, f"the client's recall {self.recall:.2f} is below {LEAST_CLIENT}"),
        )
        return [f"{self.kind}, seed {self.seed}: {text}" for good, text in checks if not good]


def main() -> int:
    """Measure, print the table, and return 1 when something is worse than it must be."""
    options = _options()
    print(describe_machine("torch", "onnxruntime", "pictograph"))
    figures = []
    for kind in options.pipelines:
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory(prefix="bench-training-") as folder:
                figures.append(measure(kind, seed, Path(folder)))
            print(f"  {figures[-1]}", file=sys.stderr, flush=True)
    text = table(figures)
    print(text)
    if options.write is not None:
        _replace_table(options.write, text)
    misses = [miss for one in figures for miss in one.misses]
    print("\n".join(misses) or "every figure is as good as it must be")
    return 1 if misses else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="*", default=list(FLOORS), help="pipelines to train (default: all)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each pipeline, with other pictures each")
    parser.add_argument("--write", type=Path, help="a page, such as docs/sandbox.md, whose table is replaced")
    options = parser.parse_args()
    unknown = [name for name in options.pipelines if name not in FLOORS]
    if unknown:
        parser.error(f"unknown pipelines {unknown}: choose from {', '.join(FLOORS)}")
    return options


def measure(kind: str, seed: int, folder: Path, budget: Budget = FULL) -> Figures:
    """Train one pipeline in a child process and look at what it gave; the job's files stay in the folder.

    Raises:
        RuntimeError: The training gave no model; the message says why.
    """
    recipe = RECIPES[kind]
    images = pictures(kind, seed, budget)
    write_export(folder / "export.zip", dataset="signs", export="all", images=images, include_images=True)
    job = {"pipeline_type": kind, "seed": seed, "threads": 1, "export": str(folder / "export.zip")}
    (folder / "job.json").write_text(json.dumps({**job, "config": dict(budget.config)}))
    started = time.perf_counter()
    child = jobs.start(folder)
    _, status, used = os.wait4(child.pid, 0)  # the one call that tells a child's own memory
    wall_s = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    result = json.loads((folder / "result.json").read_text())
    if result["status"] != "completed":
        raise RuntimeError(f"{kind} with seed {seed} {result['status']}: {result['error_message']}")
    held_out = [image for image in images if image.name in set(result["held_out"])]
    precision, recall = _read_with_client(recipe, folder, held_out)
    return Figures(
        kind,
        seed,
        wall_s,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        result["metrics"][FLOORS[kind][0]],
        precision,
        recall,
        (folder / "model.onnx").stat().st_size,
        _latency_s(folder / "model.onnx"),
    )


def pictures(kind: str, seed: int, budget: Budget) -> list[LabelledImage]:
    """Return the labelled pictures a pipeline is trained and measured with."""
    splits = [split for split, count in budget.splits for _ in range(count)]
    single = budget.single or RECIPES[kind].labels == "tags"
    drawn = road_signs(len(splits), seed=seed, size=budget.side, single=single)
    return [replace(image, split=split) for image, split in zip(drawn, splits, strict=True)]


def _read_with_client(recipe: Recipe, folder: Path, images: Sequence[LabelledImage]) -> tuple[float, float]:
    """Return precision and recall of the published client, offline, with its default confidence."""
    import pictograph

    load: Any = pictograph.load_model
    model = load(folder / "model.onnx", folder / "config.json", task=recipe.model_type, device="cpu")
    matched = predicted = actual = 0
    for image in images:
        path = folder / image.name
        path.write_bytes(image.content)
        answer = model.predict(path)
        if recipe.labels == "tags":
            matched += int(answer.top.name == image.tags[0])
            predicted, actual = predicted + 1, actual + 1
            continue
        matched += _hits(answer.predictions, image.shapes)
        predicted, actual = predicted + len(answer.predictions), actual + len(image.shapes)
    return matched / max(1, predicted), matched / max(1, actual)


def _hits(predictions: Sequence[Any], shapes: Sequence[Shape]) -> int:
    """Count the predictions that find a labelled object of their class, each object once."""
    left = list(shapes)
    for one in predictions:
        found = next((shape for shape in left if shape.name == one.name and _iou(one, shape) >= _MATCH_IOU), None)
        if found is not None:
            left.remove(found)
    return len(shapes) - len(left)


def _iou(prediction: Any, shape: Shape) -> float:
    box, (x, y, w, h) = prediction.bounding_box, shape.box
    across = min(box.x + box.w, x + w) - max(box.x, x)
    down = min(box.y + box.h, y + h) - max(box.y, y)
    common = max(0.0, across) * max(0.0, down)
    return float(common / (box.w * box.h + w * h - common))


def _latency_s(path: Path) -> float:
    """Return the median time of one picture on one thread, without decoding."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    feed = {given.name: np.random.default_rng(0).uniform(0, 1, given.shape).astype(np.float32)}
    times = []
    for _ in range(_LATENCY_ROUNDS):
        started = time.perf_counter()
        session.run(None, feed)
        times.append(time.perf_counter() - started)
    return median(times)


def table(figures: Sequence[Figures]) -> str:
    """Return the figures as a Markdown table, a row a pipeline."""
    head = "| pipeline | wall, s | CPU, s | peak memory, MB | metric on held-out pictures | precision / recall of the "
    head += "published client | ONNX, MB | one picture, ms |"
    rows = [head, "| --- | ---: | ---: | ---: | --- | --- | ---: | ---: |"]
    for kind in dict.fromkeys(one.kind for one in figures):
        rows.append(_row(kind, [one for one in figures if one.kind == kind]))
    return "\n".join(rows)


def _row(kind: str, runs: Sequence[Figures]) -> str:
    def span(value: Callable[[Figures], float], places: int) -> str:
        texts = [f"{edge(map(value, runs)):.{places}f}" for edge in (min, max)]
        return texts[0] if texts[0] == texts[1] else "-".join(texts)

    cells = (
        f"`{kind}`",
        span(lambda one: one.wall_s, 0),
        span(lambda one: one.cpu_s, 0),
        span(lambda one: one.peak_bytes / 1e6, 0),
        f"{FLOORS[kind][0]} {span(lambda one: one.metric, 3)}",
        f"{span(lambda one: one.precision, 2)} / {span(lambda one: one.recall, 2)}",
        span(lambda one: one.model_bytes / 1e6, 1),
        span(lambda one: one.latency_s * 1e3, 1),
    )
    return f"| {' | '.join(cells)} |"


def _replace_table(page: Path, text: str) -> None:
    content = page.read_text(encoding="utf-8")
    if START not in content or END not in content:
        raise SystemExit(f"{page} has no place for the table: add the lines {START!r} and {END!r}")
    before, rest = content.split(START, 1)
    after = rest.split(END, 1)[1]
    page.write_text(f"{before}{START}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
