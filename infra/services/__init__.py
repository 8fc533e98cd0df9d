"""Real services started for development, tests and the demo; each dies with the process that started it."""
