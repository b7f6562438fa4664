"""The order of records: positions of an endless stream to record indices, by arithmetic alone."""
