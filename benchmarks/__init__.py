"""Speed as numbers: `make bench` measures the real process, as ratios to a stated reference in the same run."""
