"""Guesses of the source that opens a data file: by the table of known plugins, and by asking the installed ones."""
