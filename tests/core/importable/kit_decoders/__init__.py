"""Decoders for the tests of the kit of decoders: those that keep every promise, and those that break one."""
