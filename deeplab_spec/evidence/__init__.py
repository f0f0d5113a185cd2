"""Shows a certificate: a page, a badge, and the forms that pull requests and test reports read."""
