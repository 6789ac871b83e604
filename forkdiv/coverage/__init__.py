"""pass@k and what follows from it: estimates, exact probabilities, cells, the summary."""
