"""Graph extraction: memories in, triples with evidence out, each memory marked in the transaction of its triples."""
