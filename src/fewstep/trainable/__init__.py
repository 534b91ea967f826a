"""Which weights fine-tuning trains: one file per choice."""
