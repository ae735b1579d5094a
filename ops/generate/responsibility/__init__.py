"""What a generator must answer for: copies, unsafe images, whom it shows, and its card."""
