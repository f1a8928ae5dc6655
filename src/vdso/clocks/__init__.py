"""Points in time, durations, and the sessions that move a clock."""
