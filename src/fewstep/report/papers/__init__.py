"""Tables of papers, in their own layout: published figures, and those that runs here have measured."""
