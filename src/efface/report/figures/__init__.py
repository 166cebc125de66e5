"""The figures of reports and comparisons."""
