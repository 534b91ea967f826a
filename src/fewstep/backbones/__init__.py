"""Networks of the project's own, and readers of published checkpoints."""
