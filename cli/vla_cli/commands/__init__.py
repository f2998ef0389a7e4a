"""One file for each command: parse, one library call, render."""
