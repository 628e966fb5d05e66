"""The program that an institution runs."""
