"""Makes `python -m stapo_pl.cli fit ...` do the same as `stapo fit ...`."""

from stapo_pl.cli.command import main

if __name__ == "__main__":
    main()
