"""What tells the agent that its instance must go."""
