"""Verdicts on samples, computed in a separate process that can be killed, and their counts."""
