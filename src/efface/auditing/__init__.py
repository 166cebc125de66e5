"""The audit: one file per question, and the verdict that puts the answers together."""
