"""What is wrong with the answer of a paid route, as rules in one table: each pure, each with its clause and remedy."""
