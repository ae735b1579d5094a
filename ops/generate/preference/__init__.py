"""Which of two generators' images people, or a judge in their place, prefer: Imagen 3's side-by-side protocol."""
