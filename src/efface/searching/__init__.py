"""Trying methods until one passes on held-out data."""
