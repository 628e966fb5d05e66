"""The program that the consortium runs."""
