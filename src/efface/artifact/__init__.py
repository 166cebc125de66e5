"""The folder on disk: a model, what training left behind, and the record of how it came to be."""
