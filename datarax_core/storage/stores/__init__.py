"""Stores of objects: what they say of objects, their listings and ranges, and the failures that may pass."""
