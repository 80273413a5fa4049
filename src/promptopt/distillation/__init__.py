"""Distillation: a program moves to a cheaper model, with a certificate that quality held."""
