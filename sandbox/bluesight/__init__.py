"""What is Bluesight's own behind its API: state, quirks, and how each of them is known."""
