"""Energy, area and technology tables, and the pricing of action counts."""
