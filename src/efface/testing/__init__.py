"""What every method promises, as tests: of the built-in ones, and through a pytest plugin of anybody's own."""
