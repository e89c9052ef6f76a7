"""`python -m forebay.cli` is the command `forebay`."""

from forebay.cli import main

main()
