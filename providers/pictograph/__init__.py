"""Pictograph behind the provider port: its adapter, and one file for each concern of its API."""
