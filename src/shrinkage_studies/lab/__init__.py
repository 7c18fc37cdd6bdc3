"""The laboratory: the chapter's problem, live in one page of the browser."""
