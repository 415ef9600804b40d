"""The packages of the wheel; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["stapo_pl*"]), "stapo_pl.configs", "stapo_pl.golden"],
    package_dir={"stapo_pl.configs": "configs", "stapo_pl.golden": "tests/golden"},
)
