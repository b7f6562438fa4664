"""Plans of packed rows from lengths alone, and the rows made of documents that were read."""
