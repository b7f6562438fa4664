"""Configs: immutable, validated when they are built, read from files with the place of every value."""
