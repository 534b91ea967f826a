"""Lightning modules: thin shells that run the floors below on the trainer's devices."""
