"""Buckets: their bounds, the order of their batches, and what a bucket view plans from lengths alone."""
