"""Models on the same held-out examples: compared, put into words, and shown on a page."""
