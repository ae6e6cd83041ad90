"""What a provider is asked for a region: to train a job, to answer questions, and what both cost."""
