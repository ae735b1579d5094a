"""How good the images of generators are: likeness, variety, usefulness, and whether they show what was asked for."""
