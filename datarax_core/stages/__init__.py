"""Stages: what is made of each batch, in compiled code."""
