"""How strong the judge is: its verdicts on thousands of mutants and hundreds of rewrites."""
