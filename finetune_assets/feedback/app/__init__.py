"""The web app in which reviewers work."""
