"""Worker processes that read records for a pipeline."""
