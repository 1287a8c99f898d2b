"""Trainers that can be put on a provider's machines; each trains with the sandbox's own code."""
