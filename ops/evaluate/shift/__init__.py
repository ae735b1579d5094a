"""What every model does on images from elsewhere, and under other class priors."""
