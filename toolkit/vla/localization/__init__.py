"""Localization of moments on a curve of similarities, without trained parameters."""
