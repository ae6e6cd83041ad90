"""The assets of a task in order of flow, with what reviewers are offered and what is spent."""
