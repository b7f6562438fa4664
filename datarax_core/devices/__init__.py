"""Devices: how batches lie on them, what is put there ahead of use, and how compiled code calls the host."""
