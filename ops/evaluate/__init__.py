"""Measurements with intervals."""
