"""Volumes from files and URLs, and into files."""
