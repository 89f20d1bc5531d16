"""What every job stands on: time, workers, events, state on disk, safe files, the service's surroundings."""
