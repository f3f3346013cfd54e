"""Doors to other containers: files, AnnData and the like."""
