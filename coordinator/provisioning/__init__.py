"""What broker and store must be told so that every party has the rights it needs and no other.

Pure functions from the roster's names to documents: the same names give the same bytes, so that running them again
when a member joins or leaves changes only what concerns that member. Only the SeaweedFS document holds secrets.
"""
