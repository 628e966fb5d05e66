"""This silo and the pool of generators: what it has in it, what it takes from it, and the commands about both."""
