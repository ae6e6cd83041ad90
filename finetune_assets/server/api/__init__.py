"""The endpoints: OpenAI's protocol over HTTP, from the key and the limits to the wording of answers and errors."""
