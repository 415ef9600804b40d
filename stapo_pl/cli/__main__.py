"""`python -m stapo_pl.cli fit ...` is `stapo fit ...`."""

from stapo_pl.cli.command import main

if __name__ == "__main__":
    main()
