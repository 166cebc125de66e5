"""The verbs, one file each: train, forget, audit, verify, compare, repair, import."""
