"""What a training computes on: the processor, or a CUDA GPU where there is one and it was asked for."""

from typing import Any

import torch

from sandbox.training.results import TrainingError

Tensor = Any
Device = Any  # a torch.device


def find_device(wanted: str) -> Device:
    """Return the device for the setting's word: cpu, cuda, or auto for whichever there is.

    Raises:
        TrainingError: cuda was asked for and there is none.
    """
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise TrainingError(
            f"the account's setting device is {wanted!r}, but torch finds no CUDA GPU on this machine: "
            "set device to 'cpu' or 'auto', or install a torch built for CUDA"
        )
    return torch.device("cuda")


def moved(batch: Any, device: Device) -> Any:
    """Return a tensor, or a tuple of them, on a device; what is there already stays as it is."""
    if isinstance(batch, tuple):
        return tuple(moved(part, device) for part in batch)
    return batch.to(device)
