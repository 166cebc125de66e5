"""Formulas: tensors in, tensors or numbers out."""
