"""Rectified flows: tiny models of each family's real classes, and the laws that all families keep."""
