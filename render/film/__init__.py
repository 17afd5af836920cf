"""Films: frames made one after the other, their pictures, and the files that hold them."""
