"""Follows what a provider does with submitted jobs, and how long the models stay that came of them."""
