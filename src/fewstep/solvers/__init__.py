"""How the reverse process is run over a schedule; one file per solver."""
