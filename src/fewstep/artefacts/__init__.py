"""What several stages or jobs need, each in a folder of its own, made by whoever needs it first."""
