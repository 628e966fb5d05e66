"""Pure pieces of learning: tables, codecs, models and measures, without a word of I/O beyond reading a table."""
