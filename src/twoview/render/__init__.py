"""3D scenes to pictures: load a mesh, render it from anywhere, walk on its floor."""
