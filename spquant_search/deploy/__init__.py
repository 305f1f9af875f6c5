"""From a member of the front to what is deployed."""
