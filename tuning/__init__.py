"""Sweeps: what varies, one trial, and Ray Tune over trials."""
