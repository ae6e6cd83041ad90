"""The database of what reviewers said: events that are only ever appended, and what follows from them."""
