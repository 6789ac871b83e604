"""Which tokens of the data can be learned as a rule: short runs, held-out predictions, a table."""
