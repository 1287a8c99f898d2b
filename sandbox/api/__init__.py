"""The emulated HTTP dialects, one module a vendor."""
