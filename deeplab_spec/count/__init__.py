"""What a network costs: parameters, multiply-adds and bytes, block by block, under every convention."""
