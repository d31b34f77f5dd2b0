"""Measurements side by side with other downloaders. Ratios are printed, never asserted."""
