"""The pipeline without an engine: values, errors and the provider port here, every stage's logic in a room of its own.

The rooms, each of which may only use those named before it: ``journal``, ``start``, ``watch``, ``sweep``, ``download``,
``data``, ``smoke``, ``report``.
"""
