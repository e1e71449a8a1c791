"""What all tenants share, and how it is divided: memory, places, and how often."""
