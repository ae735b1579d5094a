"""Combination of weights."""
