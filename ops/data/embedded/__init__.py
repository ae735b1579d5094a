"""Scripts that build the datasets embedded in the repository."""
