"""Rendering of a sweep's points: drafts, a queue for the farm's workers, thumbnails."""
