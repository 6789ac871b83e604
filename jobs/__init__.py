"""Entry points, one per command. `python -m jobs.VERB` is the same as `forkdiv VERB`."""
