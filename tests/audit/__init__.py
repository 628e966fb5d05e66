"""An audit of what is claimed for privacy: attacks that know everything but the noise, beside the claims.

`python -m tests.audit` plays each release many times on two data sets that differ in one worst-case record, lets the
best threshold tell them apart, and prints the claimed ε beside the least ε that explains its success.
"""
