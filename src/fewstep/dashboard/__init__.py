"""Weights & Biases as a mirror of what lies in the outputs; runs and their files know nothing of it."""
