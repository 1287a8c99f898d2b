"""PhotoGPT's HTTP API as the sandbox speaks it."""
