"""The files that lie beside a picked network as they are, but for its names and a few marked places."""
