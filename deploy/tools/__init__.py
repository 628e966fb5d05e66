"""What those who maintain the kit run: tools fetched at pinned digests, and files that are made from other files."""
