"""Every byte that comes in from a user's file or goes out to one: bounded, checked, whole or not at all."""
