"""Measurements of speed and studies, runnable as modules."""
