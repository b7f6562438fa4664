"""What records look like on the host: element specs, and values and batches held against them."""
