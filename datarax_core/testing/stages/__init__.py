"""Conformance kit of stages, in compiled code and on the host."""
