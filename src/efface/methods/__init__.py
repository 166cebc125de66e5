"""One file per unlearning method, named after it."""
