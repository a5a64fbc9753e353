"""The application is told what became of its mail: when, in what portions, and by HTTP."""
