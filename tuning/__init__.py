"""Studies and sweeps: the search space, one trial, and Ray Tune over the trials."""
