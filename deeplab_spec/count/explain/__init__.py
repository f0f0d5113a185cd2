"""Explains printed figures: the network, the input and the convention that give them."""
