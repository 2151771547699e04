"""A photograph that is there without a download, and the figure of the demonstration."""
