"""What happens after the answer: settlement, watching the chain, reconciliation, and the chores around them."""
