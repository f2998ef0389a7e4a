"""An example plug-in of vla."""
