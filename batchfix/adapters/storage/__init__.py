"""Fitted correctors in a file, and read back."""

from .models import CLASSES, CORRECTORS, KIND, SavedModel, load_model, read_model, save_model

__all__ = ["CLASSES", "CORRECTORS", "KIND", "SavedModel", "load_model", "read_model", "save_model"]
