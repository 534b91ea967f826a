"""What a run or a sweep costs, before it is spent: the pipeline's own order of runs, counted instead of made."""
