"""Stages for the tests of the kits: right ones, and ones that break a single promise each."""
