"""What the wallet can do, measured on this machine beside what its database can do without the wallet."""
