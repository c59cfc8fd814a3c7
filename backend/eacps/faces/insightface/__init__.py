"""Engine `insightface`."""
