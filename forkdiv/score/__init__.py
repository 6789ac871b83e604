"""Verdicts on samples, given in processes that can be killed, and their counts by problem."""
