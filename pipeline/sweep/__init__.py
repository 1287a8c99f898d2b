"""Every training of an account, watched or not: what has become of it, and what to do."""
