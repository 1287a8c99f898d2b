"""What can be switched in the emulated Replicate API."""

from sandbox.setting import Setting


class ReplicateSettings(Setting):
    """Quirks of the emulated Replicate API; the defaults are what its clients see on a usual day."""
