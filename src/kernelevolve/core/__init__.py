"""The nouns: frozen records, protocols, the graph. Standard library and pydantic only."""
