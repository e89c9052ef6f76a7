"""Reads prompts as a sentence encoder does: tokens of BERT's vocabulary, embeddings, and what models make of them.

The encoder and its vocabulary come with packages of their own, the optional `semantic` packages (`files.INSTALL`).
"""
