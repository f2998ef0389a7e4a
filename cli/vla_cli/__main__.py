"""`python -m vla_cli`."""

from vla_cli.main import main

main()
