"""The flows: stages in order, nothing else."""
