"""The training loop all tasks share: one-cycle AdamW, moving average of the weights, a checkpoint every epoch."""

import copy
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sandbox.training.device import find_device, moved
from sandbox.training.recipes import Settings
from sandbox.training.results import TrainingError
from sandbox.training.task import Metrics, Samples, Task

_LARGEST_EMA_DECAY = 0.998
_VALIDATE_EVERY = 5


@dataclass(frozen=True)
class Epoch:
    """One finished epoch: mean loss, the last learning rate, seconds, and validation metrics now and then."""

    epoch: int
    total_epochs: int
    loss: float
    learning_rate: float
    seconds: float
    metrics: dict[str, float] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the fields, without metrics where none were measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def one_cycle(step: int, total_steps: int, peak: float, warm_up: float) -> float:
    """Return the learning rate of a step: cosine from peak / 25 up to the peak, then cosine down to almost nothing."""
    rising = max(1.0, warm_up * total_steps)
    if step < rising:
        low, high, share = peak, peak / 25, step / rising
    else:
        low, high, share = peak / 1e4, peak, (step - rising) / max(1.0, total_steps - 1 - rising)
    return low + (high - low) * (1 + math.cos(math.pi * min(1.0, share))) / 2


class Averaged:
    """Exponential moving average of a network's weights and buffers; this is the model that is shipped."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval()
        self.updates = 0

    def update(self, network: nn.Module) -> None:
        """Take one step towards the network."""
        self.updates += 1
        decay = min(_LARGEST_EMA_DECAY, (1 + self.updates) / (10 + self.updates))
        with torch.no_grad():
            pairs = zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)
            for own, other in pairs:
                if own.dtype.is_floating_point:
                    own.lerp_(other, 1 - decay)
                else:
                    own.copy_(other)


class Trainer:
    """Trains one task; `epochs` yields after each, and a second Trainer on the same checkpoint goes on from there."""

    def __init__(
        self, task: Task, train: Samples, train_images: int, *, seed: int, checkpoint: Path | None, device: str = "cpu"
    ) -> None:
        torch.manual_seed(seed)
        self._device = find_device(device)
        self._task, self._train, self._count, self._checkpoint = task, train, train_images, checkpoint
        settings: Settings = task.settings
        self._settings, self._total_epochs = settings, settings.total_epochs(train_images)
        self._batch = settings.batch_size
        self._steps = math.ceil(train_images / self._batch)
        self._rng = np.random.default_rng(seed)
        self._network = task.network().to(self._device, memory_format=torch.channels_last)
        self._averaged = Averaged(self._network)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(), lr=settings.learning_rate, weight_decay=settings.recipe.weight_decay
        )
        self.history: list[dict[str, Any]] = []
        self._resume()

    @property
    def network(self) -> nn.Module:
        """The averaged network, in evaluation mode and on the CPU, where it is evaluated and exported."""
        network = self._averaged.network
        return network if self._device.type == "cpu" else copy.deepcopy(network).cpu()

    def epochs(self, validation: Samples | None = None) -> Iterator[Epoch]:
        """Train the epochs that are left.

        Raises:
            TrainingError: The loss is no longer a finite number.
        """
        for epoch in range(len(self.history) + 1, self._total_epochs + 1):
            started = time.monotonic()
            losses = [self._step(epoch, step, rows) for step, rows in enumerate(self._rows())]
            metrics = None
            if validation is not None and epoch % _VALIDATE_EVERY == 0 and epoch < self._total_epochs:
                metrics = self._headline(self._task.evaluate(self.network, validation))
            rate, seconds = self._optimizer.param_groups[0]["lr"], time.monotonic() - started
            done = Epoch(epoch, self._total_epochs, sum(losses) / len(losses), rate, round(seconds, 3), metrics)
            self.history.append(done.as_json())
            self._save()
            yield done

    def _headline(self, metrics: Metrics) -> dict[str, float] | None:
        value = metrics[self._task.key_metric]
        return None if value is None else {self._task.key_metric: value}

    def _rows(self) -> Iterator[Any]:
        """Yield shuffled rows in full batches; the last one is topped up with rows drawn again."""
        order = self._rng.permutation(self._count)
        missing = self._steps * self._batch - self._count
        order = np.concatenate([order, self._rng.integers(self._count, size=missing)])
        yield from torch.from_numpy(order).split(self._batch)

    def _step(self, epoch: int, step: int, rows: Any) -> float:
        done = (epoch - 1) * self._steps + step
        recipe = self._settings.recipe
        rate = one_cycle(done, self._total_epochs * self._steps, self._settings.learning_rate, recipe.warm_up)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        images, targets = moved(self._task.batch(self._train, rows, self._rng), self._device)
        self._network.train()
        loss = self._task.loss(self._network, images.contiguous(memory_format=torch.channels_last), targets)
        value = float(loss.detach())
        if not math.isfinite(value):
            asked = self._settings.learning_rate
            raise TrainingError(f"the loss became {value} in epoch {epoch}: lower learning_rate (it was {asked:g})")
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self._network.parameters(), recipe.gradient_clip)
        self._optimizer.step()
        self._averaged.update(self._network)
        return value

    def _save(self) -> None:
        """Write the whole state in one step, so that a killed child can go on bit for bit."""
        if self._checkpoint is None:
            return
        part = self._checkpoint.with_name(self._checkpoint.name + ".part")
        state = {
            "network": self._network.state_dict(),
            "averaged": self._averaged.network.state_dict(),
            "updates": self._averaged.updates,
            "optimizer": self._optimizer.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "numpy_rng": json.dumps(self._rng.bit_generator.state),
            "history": json.dumps(self.history),
        }
        torch.save(state, part)
        os.replace(part, self._checkpoint)  # noqa: PTH105 - the atomic rename is the point

    def _resume(self) -> None:
        if self._checkpoint is None or not self._checkpoint.exists():
            return
        # Onto the CPU, whatever wrote it: the random states belong there, and loading moves the weights to theirs.
        state = torch.load(self._checkpoint, weights_only=True, map_location="cpu")
        self._network.load_state_dict(state["network"])
        self._averaged.network.load_state_dict(state["averaged"])
        self._averaged.updates = state["updates"]
        self._optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        self._rng.bit_generator.state = json.loads(state["numpy_rng"])
        self.history = json.loads(state["history"])
