"""Dreamed footage: what dreaming added to a frame goes along with the motion to the next one."""
