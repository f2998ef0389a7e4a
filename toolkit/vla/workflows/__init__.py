"""Workflows: one module for each verb of the API."""
