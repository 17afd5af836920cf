"""State of a sweep while it runs: events, the board that they add up to, its forecast, the screen."""
