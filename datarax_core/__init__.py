"""The data layer for JAX training code."""
