"""Streams over iterables of other libraries, and the iterables' own states. Imports all of `sources` but views."""
