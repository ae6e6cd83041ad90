"""Tiny models of many families, of random weights, saved as published ones are: real configurations and templates.

The templates are those that TRL ships for its own tests, where there is one of the family; `templates` has the others.
"""

from __future__ import annotations

from finetune_assets_tests.server.families.images import IMAGES, image_model
from finetune_assets_tests.server.families.text import TEXT, text_model

__all__ = ["IMAGES", "TEXT", "image_model", "text_model"]
