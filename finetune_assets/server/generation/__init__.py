"""Answers to prompts: continuous batching over base and fine-tuned models."""
