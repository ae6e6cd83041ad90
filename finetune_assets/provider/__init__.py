"""The client side of the OpenAI protocol: files, fine-tuning jobs, answers and prices. Nothing is paid for twice."""
