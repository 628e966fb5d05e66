"""The consortium's side of the trust: drafts for the keyholders to sign, and the repository that the store shows.

Keyholders are people. Each has a key on a medium of its own; k of n of them must sign who is a member. What the
coordinator signs by itself, with its online key, is only what is newest.
"""
