"""The fine-tuning server: OpenAI's protocol over HTTP, real training in a process of its own."""
