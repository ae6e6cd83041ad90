"""Notices what has changed in a region, and has it registered, prepared or trained again."""
