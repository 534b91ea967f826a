"""Feature extractors that judge samples; one file each."""
