"""`python -m efface`: the command, for where it is not on the path."""

from efface.cli import main

main()
