"""Simple image sources that a learned generator must beat."""
