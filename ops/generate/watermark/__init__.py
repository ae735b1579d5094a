"""An invisible mark in exported synthetic images, and the signature of the export."""
