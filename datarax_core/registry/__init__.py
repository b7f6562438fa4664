"""What a config can name: sources, stages and decoders, the pipeline config itself, and its JSON Schema."""
