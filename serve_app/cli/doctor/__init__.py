"""`glimpse3d doctor`: whether the store that the environment names can be worked with.

checks    what a check is, and what runs them
schema    what the migrations promise, and what a database has
cycles    write, read and delete again
supabase  the checks of a Supabase project
postgres  the checks of PostgreSQL and a directory
command   the command
"""
