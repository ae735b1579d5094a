"""From raw files to curated shards."""
