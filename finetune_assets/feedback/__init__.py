"""Reviewers correct labels and models: a store of events, and the app in which they work."""
