"""Graders: how good an answer is, as a number. What they are is OpenAI's guide on graders, read 2026-11-30."""
