"""Every size of every trainer's network: two steps of training, and an exported file that computes the same."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from sandbox.modelsizes import DEFAULT_SIZES, SIZES
from sandbox.roadsigns import CLASSES, road_signs
from sandbox.training.export import export_onnx
from sandbox.training.loop import Trainer
from sandbox.training.nets import scaled
from sandbox.training.recipes import RECIPES, resolve
from sandbox.training.task import task_of

KINDS = sorted(RECIPES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the child trains; several threads only get in each other's way on networks so small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(kind: str, **config: Any) -> Any:
    """Train two steps and return the task, its samples and its trainer."""
    settings, warnings = resolve(RECIPES[kind], {"epochs": 1, "batch_size": 2, "image_size": 64, **config})
    assert warnings == []
    task = task_of(CLASSES, settings)
    samples = task.samples(road_signs(4, size=64, single=kind == "classification"))
    trainer = Trainer(task, samples, 4, seed=0, checkpoint=None)
    list(trainer.epochs())
    return task, samples, trainer


def weights(network: Any) -> int:
    """Count a network's weights."""
    return sum(part.numel() for part in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_every_size_trains_and_exports(kind: str, tmp_path: Path) -> None:
    """Its network is as much larger as its channels are wider, and what leaves it has the default's form."""
    counts, forms = {}, set()
    for word, size in SIZES[kind].items():
        task, samples, trainer = trained(kind, model_size=word)
        counts[size.channel_factor] = weights(trainer.network)
        if size.channel_factor != 1.0:  # the other tests export the default
            path = tmp_path / f"{word}.onnx"
            export_onnx(task, trainer.network, task.example(samples), path, {})
            outputs = onnx.load(path).graph.output
            forms.add(str([[dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in outputs]))
    in_order = [counts[factor] for factor in sorted(counts)]
    assert in_order == sorted(set(in_order))
    assert len(in_order) == len({size.channel_factor for size in SIZES[kind].values()})
    assert len(forms) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_is_the_network_it_always_was(kind: str) -> None:
    """Its word and no word give the very same weights after training, and its widths are those written down."""
    plain, named = trained(kind)[2], trained(kind, model_size=DEFAULT_SIZES[kind])[2]
    for ours, theirs in zip(plain.network.state_dict().values(), named.network.state_dict().values(), strict=True):
        assert bool((ours == theirs).all())
    written = (16, 24, 32, 48, 64, 96, 128)
    assert [scaled(width, 1.0) for width in written] == list(written)


def test_the_size_is_in_the_model_s_config(tmp_path: Path) -> None:
    """The training block of config.json names it, so that training again gives the same network."""
    from sandbox.exportzip import write_export
    from sandbox.training.run import run_job

    export = tmp_path / "export.zip"
    write_export(export, dataset="d", export="e", images=road_signs(6, size=64), include_images=True)
    config = {"epochs": 1, "batch_size": 4, "image_size": 64, "model_size": "yolox-nano"}
    result = run_job(tmp_path, {"pipeline_type": "yolox", "seed": 0, "export": str(export), "config": config})
    training = json.loads((tmp_path / "config.json").read_text())["training"]
    assert (result["status"], training["model_size"]) == ("completed", "nano")
    assert resolve(RECIPES["yolox"], training)[0].size.word == "nano"
