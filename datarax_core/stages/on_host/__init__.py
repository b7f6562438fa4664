"""Stages on the host: called with NumPy columns, text and ragged columns before anything is placed on a device."""
