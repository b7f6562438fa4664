"""Plugins of any kind: what is installed, what is asked of it, and who listens to hooks."""
