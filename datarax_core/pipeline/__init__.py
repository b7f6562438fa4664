"""The pipeline: batches of a source's records, through stages, from any position."""
