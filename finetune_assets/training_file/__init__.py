"""From clean examples to the file that a provider trains on, and what is wrong with such a file."""
