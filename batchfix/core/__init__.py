"""Arrays in, arrays out: the mathematics, without pandas, scikit-learn or torch."""
