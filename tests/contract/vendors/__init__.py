"""Systems of record as their vendors' documents describe them, small enough to read: what presets and the vendors' own libraries ask."""
