"""Views that choose records of a source: parts of it, those that a predicate keeps, groups by value, and draws by weight."""
