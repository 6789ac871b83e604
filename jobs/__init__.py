"""What you submit: one thin entry per verb. `python -m jobs.VERB` equals `forkdiv VERB`."""
