"""Clusters, controlled from this machine: starting and ending them, and jobs on them.

Nothing here renders.
"""
