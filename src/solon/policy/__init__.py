"""The ways to the policy, each in a file of its own, and what they share."""
