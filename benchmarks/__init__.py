"""Side-by-side measurements of the scoring engine and of what people use today."""
