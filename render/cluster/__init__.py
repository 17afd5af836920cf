"""Clusters from this machine: started and ended, jobs sent to them, followed and stopped. Nothing here renders."""
