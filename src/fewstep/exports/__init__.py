"""A schedule as other software takes it; one file per software, none of which needs it to be installed."""
