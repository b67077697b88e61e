"""Pure rules: what a run is, and how it may move. No clock, no I/O, standard library only."""
