"""Sensor packets for datarax."""
