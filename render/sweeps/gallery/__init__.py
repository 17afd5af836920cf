"""Results of a sweep: contact sheets and the gallery page."""
