"""The page of `experiment=deterministic_league`: which schedule a deterministic solver should get.

Per solver and process: Fréchet distances of all rows, their differences to the baselines, the share of what any
schedule can win, and what each search cost.
"""
