"""Metrics: what an output is worth, and what there is to learn from it. One file a kind; `build` reads the config."""
