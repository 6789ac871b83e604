"""Graders: they decide whether the answer in a response is the reference answer."""
