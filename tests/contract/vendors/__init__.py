"""Systems of record as their vendors' documents describe them, small enough to read: what our presets and the vendors' own libraries ask."""
