"""Parts of the source protocol, between records by index and a source whose position moves: its order, and its states."""
