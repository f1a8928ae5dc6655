"""What things cost, and which way they go: measured on this machine."""
