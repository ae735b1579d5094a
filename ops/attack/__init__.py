"""Threat models and attacks."""
