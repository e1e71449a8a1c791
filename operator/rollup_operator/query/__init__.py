"""The read side: from a search request to what each store has to read, and from that to the answer. Pure."""
