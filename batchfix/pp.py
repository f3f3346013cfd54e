"""Preprocessing functions on AnnData: the door that scverse users expect."""
