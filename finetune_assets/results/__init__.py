"""What the stages of a region leave and where it lies: read by the pipeline and by whoever uses its models."""
