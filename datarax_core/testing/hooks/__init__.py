"""Conformance kit of hook plugins."""
