"""Equal networks: published networks written in other ways, which the judge must accept."""
