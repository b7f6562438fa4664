"""What ``drx peek`` shows of records: summaries, pictures, and a page."""
