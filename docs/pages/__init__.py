"""Text of the generated pages of the site."""
