"""Bring the model here so that the bytes are the bytes, whatever they were packed in."""
