"""Windows over sequences: the arithmetic of their places, gathers of them, and the fields that they have."""
