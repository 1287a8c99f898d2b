"""The memory across crashes: what was begun, with whose money, and what became of it."""
