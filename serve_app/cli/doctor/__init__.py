"""`glimpse3d doctor`: whether the store that the environment names can be worked with.

checks            what a check is, a round of them, and what runs it
schema_checks     what the migrations promise, and what a database has
cycles            write, read and delete again
supabase_checks   the steps of a Supabase project
postgres_checks   the steps of PostgreSQL and a directory
doctor_command    the command
"""
