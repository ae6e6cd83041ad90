"""Fine-tuning: what a job learns from, how, and how it goes on after an interruption."""
