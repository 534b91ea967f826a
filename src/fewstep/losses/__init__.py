"""Losses that denoisers are trained with, one file each."""
