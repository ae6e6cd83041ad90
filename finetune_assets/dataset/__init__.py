"""What a region's labelled data is: read, sampled into splits, and filtered into clean and quarantined rows."""
