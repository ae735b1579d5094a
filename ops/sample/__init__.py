"""Plans that say which synthetic images to make."""
