"""A trainer for Replicate, which has none for detection or classification of its own."""
