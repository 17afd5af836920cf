"""Output for people: lines, tables and log files, escaped so that outside text cannot control a terminal."""
