-- Glimpse3D {version}: tables, functions, rights and buckets of a Supabase project, in one piece.
-- Paste it into the SQL editor and run it; or `psql -f` it. It may run any number of times, and
-- brings a project of an older release up to date. Then: glimpse3d doctor
begin;
set local client_min_messages = warning;
-- Rather stop than keep others waiting behind what waits here.
set local lock_timeout = '10s';
