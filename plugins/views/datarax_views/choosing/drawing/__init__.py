"""Draws by weight: the weights of records, and the table by which a draw finds its record."""
