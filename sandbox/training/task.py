"""What a trainable task provides; the loop, checkpoint, progress and export are shared."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from sandbox.datasets import LabelledImage
from sandbox.training.recipes import Settings

Tensor = Any
Network = Any  # a torch module
Samples = Any  # a task's own prepared data; the loop only passes it around
Metrics = dict[str, Any]


class Task(ABC):
    """One pipeline type's data preparation, loss, evaluation and exported graph."""

    input_names: ClassVar[tuple[str, ...]]
    output_names: ClassVar[tuple[str, ...]]
    key_metric: ClassVar[str]
    """The one number shown while training."""

    def __init__(self, classes: Sequence[str], settings: Settings) -> None:
        self.classes, self.settings = tuple(classes), settings

    @abstractmethod
    def network(self) -> Network:
        """Return the untrained network."""

    @abstractmethod
    def samples(self, images: Sequence[LabelledImage]) -> Samples:
        """Decode the images and labels once, to network size."""

    @abstractmethod
    def batch(self, samples: Samples, rows: Tensor, rng: np.random.Generator) -> tuple[Tensor, Any]:
        """Return an augmented batch of network input, and targets for `loss`."""

    @abstractmethod
    def loss(self, network: Network, images: Tensor, targets: Any) -> Tensor:
        """Return the scalar training loss of one batch."""

    @abstractmethod
    def evaluate(self, network: Network, samples: Samples) -> Metrics:
        """Return the metrics on samples not trained on; `evaluated_images` is among them."""

    @abstractmethod
    def shipped(self, network: Network) -> Network:
        """Return the module to export, in evaluation mode."""

    def in_same_order(self, expected: Sequence[Any], actual: Sequence[Any]) -> Sequence[Any]:
        """Return the file's outputs, arranged as the network's where their order says nothing."""
        return actual

    @abstractmethod
    def example(self, samples: Samples) -> Tensor:
        """Return one real input (1, 3, H, W) of the exported graph."""


def task_of(classes: Sequence[str], settings: Settings) -> Task:
    """Return the task of a recipe."""
    built: Task = import_module(f"sandbox.training.{settings.recipe.module}").task(classes, settings)
    return built
