"""The middle floor: what exists, one module per lineage stage."""
