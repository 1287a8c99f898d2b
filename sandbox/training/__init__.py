"""Train small models on this machine, in a child process: `python -m sandbox.training JOB_DIR`."""
