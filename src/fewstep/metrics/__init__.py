"""Measures of the result, as torchmetrics."""
