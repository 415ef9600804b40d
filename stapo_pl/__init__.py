"""Reinforcement learning with verifiable rewards on PyTorch Lightning, built around STAPO."""
