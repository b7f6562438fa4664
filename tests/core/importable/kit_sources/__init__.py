"""Sources that the conformance kit is tested with: healthy ones, and for each promise one that breaks it."""
