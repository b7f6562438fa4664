"""In-memory source."""
