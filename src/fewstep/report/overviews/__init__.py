"""Tables of all runs in `outputs`, one file each; `report.table` chooses one by its name."""
