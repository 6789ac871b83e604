"""Graders: is the answer in a response the reference answer?"""
