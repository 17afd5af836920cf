"""State of a sweep while it runs: events, the board of its points, a forecast, the screen."""
