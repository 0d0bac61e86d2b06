"""What figures mean: metrics, statistics, doubts, and comparisons of records."""
