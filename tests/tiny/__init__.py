"""Small random models in the files and folders of the released ones, written in a second."""
