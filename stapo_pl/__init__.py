"""Reinforcement learning with verifiable rewards for language models, on PyTorch Lightning, built
around STAPO."""
