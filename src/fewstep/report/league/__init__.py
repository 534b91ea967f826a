"""The league of schedule optimizers: who is ahead of whom, and how sure that is."""
