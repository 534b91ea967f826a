"""Compiled loops of the searches. Importing a file here loads numba and compiles: searches do so when called."""
