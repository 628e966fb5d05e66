"""A bundle: one archive with everything for an institution whose machines reach no network."""
