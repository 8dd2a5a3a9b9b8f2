"""What must still reach the cloud."""
