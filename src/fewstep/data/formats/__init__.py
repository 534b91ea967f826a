"""Files that images come in; what a file holds is never trusted, and never run."""
