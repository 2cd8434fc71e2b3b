"""The schema's history; `app.store.opening` runs it."""
