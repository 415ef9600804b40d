"""What every room uses: errors, seeds, ranks, carriers and tensors."""
