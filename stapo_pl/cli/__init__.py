"""This room is the command line: `stapo fit`, `evaluate`, `export`, `sweep`, `compare`, `inspect`.

Open `command.py` first: it chooses the command by the first word. Each command has a file of its
own, such as `fit.py`. A command line consists of words such as `objective=stapo`. `grammar.py`
turns words into flags, `files.py` reads the YAML files that they name, and `words.py` checks every
value before the parser sees it. `hints.py` suggests what a wrong word may have meant, and
`screen.py` prints the first screen of help. `naming.py` makes the name of a run, and `resuming.py`
compares a resumed run with the earlier one. `combinations.py` makes the runs of a sweep from its
words, and `recorded.py` finds runs on disk.
"""
