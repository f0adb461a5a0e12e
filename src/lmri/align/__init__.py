"""What subjects share whose units do not correspond: representations in the same trials."""
