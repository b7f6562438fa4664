"""The ArrayRecord source of datarax: random access to records in files, decoded in whole batches."""

__all__: list[str] = []
