"""Conformance kit of sources: a test class with a test for each promise."""
