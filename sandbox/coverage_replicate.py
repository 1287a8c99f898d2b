"""What of Replicate is emulated, and how each part of it is known."""

from sandbox.provenance import Behaviour, Route

ROUTES: tuple[Route, ...] = ()
BEHAVIOURS: tuple[Behaviour, ...] = ()
