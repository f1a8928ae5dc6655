"""What the benchmarks have in common: rounds in turns, rows and their table, peers, a picture."""
