"""Serving and scheduling the flows."""
