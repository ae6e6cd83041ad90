"""Work that goes on without a request: the queue of fine-tuning jobs, their worker processes, and batches."""
