"""What the server remembers: SQLite rows and the files beside them. The only users of SQLAlchemy in the server."""
