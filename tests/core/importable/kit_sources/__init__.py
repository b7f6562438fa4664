"""Sources that test the conformance kit: some that keep all promises, and for each promise one that breaks it."""
