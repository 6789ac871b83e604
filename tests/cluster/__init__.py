"""Tests of the files in cluster/ that start what the files start."""
