-- The six buckets and their policies. Does nothing where there is no Supabase Storage.
--
-- Row-level security is on in `storage` from the beginning, and the service role passes it. Nobody
-- else may do anything here. Policies that say no stand beside those that somebody wrote for other
-- buckets and made too wide (`using (true)`), and win. supabase/policies opens reading.
--
-- Policies are only touched where something is to change: on the platform each CREATE or DROP POLICY
-- locks the tables of auth and storage against everybody until the transaction ends. So a policy
-- that is to mean something else gets another name.

create or replace function public.schema_version_v1() returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select '20261123000002'
$$;
select public.guard_functions_v1(array['schema_version_v1'], array[]::text[]);

do $do$
declare
    -- One per command, so that supabase/policies can open one of them.
    v_command text;
    v_check constant text := $q$(bucket_id <> all (array[
        'project-uploads', 'processed-images', 'multiview-images', 'depth-maps', 'enhanced-views',
        '3d-models']))$q$;
begin
    if to_regclass('storage.buckets') is null then
        return;
    end if;

    -- Sizes and types of an older release are brought up to date; what was made public stays so.
    insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
    select b.id, b.id, false, b.mebibytes * 1024 * 1024, b.types
      from (values
        ('project-uploads', 50, array['image/png']),
        ('processed-images', 50, array['image/png']),
        ('multiview-images', 50, array['image/png', 'application/octet-stream']),
        ('depth-maps', 50, array['image/png', 'application/octet-stream']),
        ('enhanced-views', 50, array['image/png']),
        ('3d-models', 200, array[
            'application/octet-stream', 'application/zip', 'image/png', 'model/gltf-binary',
            'model/vnd.usdz+zip', 'video/mp4'])) as b (id, mebibytes, types)
    on conflict (id) do update
       set file_size_limit = excluded.file_size_limit,
           allowed_mime_types = excluded.allowed_mime_types;

    foreach v_command in array array['select', 'insert', 'update', 'delete'] loop
        continue when exists (
            select 1 from pg_policies where schemaname = 'storage' and tablename = 'objects'
               and policyname = 'glimpse3d_no_' || v_command);
        execute format(
            'create policy %I on storage.objects as restrictive for %s to public %s',
            'glimpse3d_no_' || v_command, v_command,
            case v_command
                when 'insert' then 'with check ' || v_check
                when 'update' then format('using %s with check %s', v_check, v_check)
                else 'using ' || v_check end);
    end loop;
    if exists (select 1 from pg_policies where schemaname = 'storage' and tablename = 'objects'
                  and policyname = 'glimpse3d_demo_read') then
        drop policy glimpse3d_demo_read on storage.objects;
    end if;
    if not exists (select 1 from pg_policies where schemaname = 'storage' and tablename = 'buckets'
                      and policyname = 'glimpse3d_no_buckets') then
        create policy glimpse3d_no_buckets on storage.buckets as restrictive for all
            to public
            using (id <> all (array[
                'project-uploads', 'processed-images', 'multiview-images', 'depth-maps',
                'enhanced-views', '3d-models']));
    end if;
end
$do$;
