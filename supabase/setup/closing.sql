
-- What the editor shows when all of it has worked.
select public.schema_version_v1() as schema_version;

commit;
