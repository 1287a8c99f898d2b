"""A local training provider: speaks the vendors' HTTP APIs, bills and fails like them, trains small models for real."""
