"""From the version that is there to the version that is wanted."""
