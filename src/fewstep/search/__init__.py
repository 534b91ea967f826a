"""Searches: how a schedule is found, one file per search."""
