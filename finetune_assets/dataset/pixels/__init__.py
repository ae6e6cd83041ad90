"""What a file's pixels look like: bit depth, range and colour become 8-bit sRGB here, and nowhere else."""
