"""How strong the judge is: what it says of thousands of wrong networks and hundreds of equal ones."""
