"""A Dagster project that turns labelled images and questions into calibrated fine-tuned models, region by region."""

__version__ = "0.1.0"
