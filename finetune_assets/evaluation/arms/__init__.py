"""A contest between everything that a user could do to have the questions answered."""
