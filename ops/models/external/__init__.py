"""Models from elsewhere: any module from pixels to logits, with its own code and weights."""
