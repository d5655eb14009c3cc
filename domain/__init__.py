"""What is true about money: pure, synchronous, standard library only."""
