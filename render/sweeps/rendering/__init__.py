"""Rendering of a sweep's points: drafts, the queue of a farm's workers, pictures and thumbnails."""
