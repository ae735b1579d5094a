"""The page on which people vote on two images, on this machine only."""
