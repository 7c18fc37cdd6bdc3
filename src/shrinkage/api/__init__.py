"""What a script or a notebook calls; `import shrinkage` offers all of it."""
