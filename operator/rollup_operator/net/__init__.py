"""HTTP and TLS as every part of the operator uses them, whomever it speaks to."""
