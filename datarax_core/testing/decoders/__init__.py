"""Conformance kit of decoders."""
