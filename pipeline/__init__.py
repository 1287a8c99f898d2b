"""The pipeline without an engine: values, errors, the provider port and every stage's logic."""
