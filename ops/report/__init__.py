"""Claims, figures and the HTML report."""
