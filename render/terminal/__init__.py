"""Text on its way to people: lines, tables and log files, in which nothing from outside can act on a terminal."""
