"""Clusters, controlled from this machine: start and end them, send jobs to them, follow and stop jobs.

Nothing here renders.
"""
