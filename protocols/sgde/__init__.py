"""SGDE (arXiv 2109.12062): silos share signed, differentially private generators of their labelled tables."""
