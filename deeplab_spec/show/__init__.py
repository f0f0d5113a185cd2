"""Shows a published network as a table, a drawing or JSON, and lists the clauses of the specification."""
