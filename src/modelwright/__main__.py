"""`python -m modelwright`."""

from .cli import main

main()
