"""Programs we promise to work with: their own code, with stand-ins for what it runs in."""
