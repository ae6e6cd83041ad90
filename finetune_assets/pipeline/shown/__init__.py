"""What a person is shown in the UI: tables, pictures and pages of the stages, and overviews of all tasks."""
