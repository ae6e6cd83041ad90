"""The asset checks: what stops a region before money is spent, and what a person should look at."""
