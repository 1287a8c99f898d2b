"""One adapter a vendor over httpx."""
