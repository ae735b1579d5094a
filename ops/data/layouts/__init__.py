"""Downloads as their publishers lay them out, made into raw data of the project."""
