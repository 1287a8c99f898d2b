"""Training on a device: which one, and that every tensor of a step gets there. No GPU is needed for it.

`Elsewhere` stands in for a GPU: tensors that were sent to the device are remembered, so is everything computed from
them, and an operation that mixes them with a tensor that stayed behind is refused, as CUDA would.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from sandbox.exportzip import write_export
from sandbox.roadsigns import CLASSES, road_signs
from sandbox.training import loop
from sandbox.training.device import find_device, moved
from sandbox.training.recipes import RECIPES, resolve
from sandbox.training.results import TrainingError, message_of
from sandbox.training.run import run_job
from sandbox.training.task import task_of

KINDS = sorted(RECIPES)
INDEXING = ("aten::index", "aten::index_put_", "aten::_unsafe_index")
"""CUDA takes indices from the CPU here, and nothing else."""


@pytest.mark.parametrize(
    ("wanted", "is_there", "expected"),
    [
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("auto", False, "cpu"),
        ("auto", True, "cuda"),
        ("cuda", True, "cuda"),
    ],
)
def test_the_word_chooses_the_device(
    wanted: str, is_there: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is used where there is one and it was asked for, or the choice was left open."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert find_device(wanted).type == expected


def test_cuda_without_a_gpu_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run fails before it trains, with what to change."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings, _ = resolve(RECIPES["yolox"], {"epochs": 1, "batch_size": 2, "image_size": 64})
    task = task_of(CLASSES, settings)
    samples = task.samples(road_signs(2, size=64))
    with pytest.raises(TrainingError, match=r"the account's setting device is 'cuda'.*no CUDA GPU.*'cpu' or 'auto'"):
        loop.Trainer(task, samples, 2, seed=0, checkpoint=None, device="cuda")


def test_the_job_s_device_reaches_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server wrote into the job is what the child looks for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    export = tmp_path / "export.zip"
    write_export(export, dataset="d", export="e", images=road_signs(6, size=64), include_images=True)
    job = {"pipeline_type": "yolox", "seed": 0, "export": str(export), "config": {"image_size": 64}, "device": "cuda"}
    with pytest.raises(TrainingError, match="setting device is 'cuda'"):
        run_job(tmp_path, job)


def test_a_gpu_that_is_full_says_so_in_torch_s_words() -> None:
    """What a hosted worker would pass on is passed on here."""
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    assert message_of(full) == "CUDA out of memory. Tried to allocate 2.00 GiB"


class _Marks:
    """Tensors that are on the device, by their storage."""

    def __init__(self) -> None:
        self.pointers: set[int] = set()
        self.kept: list[Any] = []  # a storage must not be freed and its address used again

    def add(self, value: Any) -> Any:
        for leaf in tree_leaves(value):
            if isinstance(leaf, torch.Tensor):
                self.kept.append(leaf.untyped_storage())
                self.pointers.add(leaf.untyped_storage().data_ptr())
        return value

    def has(self, tensor: Any) -> bool:
        return tensor.untyped_storage().data_ptr() in self.pointers


class _Compute(TorchDispatchMode):  # type: ignore[misc]
    """Marks what is computed from marked tensors; refuses to mix them with others."""

    def __init__(self, marks: _Marks) -> None:
        super().__init__()
        self.marks = marks

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, torch.Tensor)]
        there = [self.marks.has(tensor) for tensor in tensors]
        name = func._schema.name
        if any(there):
            checked = tree_leaves((args[0], args[2:])) if name in INDEXING else tensors
            tensors = [leaf for leaf in checked if isinstance(leaf, torch.Tensor) and leaf.dim() and leaf.numel()]
            assert all(map(self.marks.has, tensors)), f"{name} mixes the device with the CPU"
        out = func(*args, **(kwargs or {}))
        return self.marks.add(out) if any(there) else out


class _Sending(TorchFunctionMode):  # type: ignore[misc]
    """Takes `.to(device)` and `device=` for the way to the device."""

    def __init__(self, marks: _Marks, device: Any) -> None:
        super().__init__()
        self.marks, self.device = marks, device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.one_hot:  # makes its own zeros beside the labels, out of sight of Python
            with _disable_current_modes():
                out = func(*args, **kwargs)
            return self.marks.add(out) if self.marks.has(args[0]) else out
        if func is torch.Tensor.to and any(isinstance(arg, torch.device) for arg in (*args[1:], *kwargs.values())):
            return args[0] if self.marks.has(args[0]) else self.marks.add(args[0].clone())
        out = func(*args, **kwargs)
        return self.marks.add(out) if isinstance(kwargs.get("device"), torch.device) else out


@contextmanager
def elsewhere(network: Any) -> Iterator[_Compute]:
    """Pretend that the network is on the device, and watch what comes near it."""
    marks = _Marks()
    marks.add([*network.parameters(), *network.buffers()])
    compute = _Compute(marks)
    with compute, _Sending(marks, torch.device("cpu")):
        yield compute


def one_step(kind: str, *, sends: bool = True) -> None:
    """Compute one loss, with the network on the device, and its gradients."""
    settings, _ = resolve(RECIPES[kind], {"batch_size": 4, "image_size": 64})
    task = task_of(CLASSES, settings)
    samples = task.samples(road_signs(4, size=64, single=kind == "classification"))
    network = task.network().train()
    batch = task.batch(samples, torch.arange(4), np.random.default_rng(0))
    with elsewhere(network):
        images, targets = moved(batch, torch.device("cpu")) if sends else batch
        loss = task.loss(network, images, targets)
    loss.backward()  # torch's own: it follows the forward step


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_leaves_nothing_behind(kind: str) -> None:
    """The loss of every pipeline uses tensors of the device alone."""
    one_step(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_stays_behind_is_noticed(kind: str) -> None:
    """The stand-in for a GPU refuses what a GPU would."""
    with pytest.raises(AssertionError, match="mixes the device with the CPU"):
        one_step(kind, sends=False)


def test_weights_are_evaluated_and_exported_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU the averaged network itself is handed out; from a GPU a copy, so that training goes on where it is."""
    settings, _ = resolve(RECIPES["classification"], {"epochs": 2, "batch_size": 2, "image_size": 64})
    task = task_of(CLASSES, settings)
    samples = task.samples(road_signs(4, size=64, single=True))
    trainer = loop.Trainer(task, samples, 4, seed=0, checkpoint=tmp_path / "checkpoint.pt")
    assert trainer.network is trainer.network
    next(trainer.epochs())
    monkeypatch.setattr(trainer, "_device", torch.device("cuda"))
    copied = trainer.network
    assert copied is not trainer.network
    assert {str(part.device) for part in copied.parameters()} == {"cpu"}
    kept: dict[str, Any] = {}
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *given, **options: kept.update(options) or load(*given, **options))
    again = loop.Trainer(task, samples, 4, seed=0, checkpoint=tmp_path / "checkpoint.pt")
    assert (kept["map_location"], len(again.history)) == ("cpu", 1)
