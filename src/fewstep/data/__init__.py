"""Images and their splits; one file per source."""
