"""From answers to scores, one file for each section of the report."""
