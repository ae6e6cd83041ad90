"""Base models in memory: taken apart, with their eyes and their chat format."""
