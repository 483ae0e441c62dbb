-- Who may do what: nobody but the service role calls a function or reads a table, whatever the
-- platform grants by itself. And `inspect_v1`, by which `glimpse3d doctor` sees that it is so.
--
-- Runs on any PostgreSQL >= 15; the roles of Supabase (anon, authenticated, service_role) are only
-- spoken of where they are. Supabase grants every new table and function in `public` to all three,
-- so each later file ends with `guard_functions_v1` of what it adds or replaces (which takes the
-- owner's rights away again), and `guard_tables_v1`.

create or replace function public.schema_version_v1() returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select '20261123000001'
$$;

-- jobs whose lease has expired
create index if not exists jobs_by_lease on public.jobs (lease_expires_at)
    where state = 'running';

-- ---------------------------------------------------------------------------------------------
-- guards

-- Steps are what clients call: they run with the rights of the tables' owner, and the service role
-- may execute them. Parts are what steps are made of, and triggers: they run with the rights of who
-- calls them, and nobody may. A name stands for all functions of that name.
create or replace function public.guard_functions_v1(p_steps text[], p_parts text[]) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_name text;
    v_function regprocedure;
    v_role text;
begin
    foreach v_name in array p_steps || p_parts loop
        if not exists (select 1 from pg_proc
                        where proname = v_name and pronamespace = 'public'::regnamespace) then
            raise exception 'There is no function %.', v_name;
        end if;
        for v_function in select oid::regprocedure from pg_proc
                           where proname = v_name and pronamespace = 'public'::regnamespace loop
            execute format('revoke all on function %s from public', v_function);
            for v_role in select rolname from pg_roles
                           where rolname in ('anon', 'authenticated', 'service_role') loop
                execute format('revoke all on function %s from %I', v_function, v_role);
            end loop;
            if v_name = any (p_steps) then
                execute format('alter function %s security definer', v_function);
                if exists (select 1 from pg_roles where rolname = 'service_role') then
                    execute format('grant execute on function %s to service_role', v_function);
                end if;
            end if;
        end loop;
    end loop;
end
$$;
comment on function public.guard_functions_v1(text[], text[]) is
    'Lets the service role alone execute the steps, and nobody the parts.';

-- Tables and views of ours: row-level security, all rights for the service role, none for others.
-- What the policies in supabase/policies have opened is closed with it, for columns too.
create or replace function public.guard_tables_v1(p_names text[]) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_name text;
    v_role text;
begin
    foreach v_name in array p_names loop
        if (select relkind from pg_class where oid = format('public.%I', v_name)::regclass) = 'r'
        then
            -- Only where it is off: it locks the table.
            if not (select relrowsecurity from pg_class
                     where oid = format('public.%I', v_name)::regclass) then
                execute format('alter table public.%I enable row level security', v_name);
            end if;
            if exists (select 1 from pg_policies
                        where schemaname = 'public' and tablename = v_name
                          and policyname = 'glimpse3d_demo_read') then
                execute format('drop policy glimpse3d_demo_read on public.%I', v_name);
            end if;
        end if;
        execute format('revoke all on public.%I from public', v_name);
        for v_role in select rolname from pg_roles where rolname in ('anon', 'authenticated') loop
            execute format('revoke all on public.%I from %I', v_name, v_role);
        end loop;
        if exists (select 1 from pg_roles where rolname = 'service_role') then
            execute format('grant all on public.%I to service_role', v_name);
        end if;
    end loop;
end
$$;
comment on function public.guard_tables_v1(text[]) is
    'Lets the service role alone read and write the tables and views.';

-- ---------------------------------------------------------------------------------------------
-- what is there

-- {version, schema_version, role, now, tables, functions, policies, buckets}; `buckets` is null
-- where there is no Storage. Rights of roles that do not exist are empty.
create or replace function public.inspect_v1() returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_buckets jsonb;
begin
    if to_regclass('storage.buckets') is not null then
        -- Not known when this function is made elsewhere.
        execute $q$
            select coalesce(jsonb_agg(jsonb_build_object(
                       'id', b.id, 'public', b.public, 'file_size_limit', b.file_size_limit,
                       'allowed_mime_types', to_jsonb(b.allowed_mime_types)) order by b.id), '[]')
              from storage.buckets b
        $q$ into v_buckets;
    end if;
    return jsonb_build_object(
        'version', current_setting('server_version'),
        'version_number', current_setting('server_version_num')::integer,
        'schema_version', schema_version_v1(),
        'role', coalesce(
            nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role',
            session_user::text),
        'now', clock_timestamp(),
        'tables', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', c.relname,
                       'view', c.relkind = 'v',
                       'row_security', c.relrowsecurity,
                       'anon', (
                            select coalesce(jsonb_agg(distinct p.name order by p.name), '[]')
                              from unnest(array[
                                  'select', 'insert', 'update', 'delete', 'truncate']) p (name)
                              join pg_roles r on r.rolname in ('anon', 'authenticated')
                             where has_table_privilege(r.oid, c.oid, p.name)
                                or (p.name in ('select', 'insert', 'update')
                                    and has_any_column_privilege(r.oid, c.oid, p.name))),
                       'service', (
                            select bool_and(has_table_privilege(r.oid, c.oid, p.name))
                              from unnest(array['select', 'insert', 'update', 'delete']) p (name)
                              join pg_roles r on r.rolname = 'service_role')
                   ) order by c.relname), '[]')
              from pg_class c
             where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')),
        'functions', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'name', f.proname,
                       'definer', f.prosecdef,
                       'fixed_path', coalesce(
                            (select bool_or(s like 'search_path=%') from unnest(f.proconfig) s),
                            false),
                       'anon', exists (
                            select 1 from pg_roles r where r.rolname in ('anon', 'authenticated')
                               and has_function_privilege(r.oid, f.oid, 'execute')),
                       'service', (
                            select has_function_privilege(r.oid, f.oid, 'execute')
                              from pg_roles r where r.rolname = 'service_role')
                   ) order by f.proname, f.oid), '[]')
              from pg_proc f
             where f.pronamespace = 'public'::regnamespace),
        'policies', (
            select coalesce(jsonb_agg(jsonb_build_object(
                       'schema', l.schemaname, 'table', l.tablename, 'name', l.policyname,
                       'permissive', l.permissive = 'PERMISSIVE', 'command', lower(l.cmd),
                       'roles', to_jsonb(l.roles))
                       order by l.schemaname, l.tablename, l.policyname), '[]')
              from pg_policies l
             where l.schemaname in ('public', 'storage')),
        'buckets', v_buckets);
end
$$;
comment on function public.inspect_v1() is 'What `glimpse3d doctor` looks at.';

-- ---------------------------------------------------------------------------------------------
-- all there is so far
select public.guard_functions_v1(
    p_steps => array[
        'begin_upload_v1', 'cancel_job_v1', 'claim_job_v1', 'claim_webhook_v1', 'commit_stage_v1',
        'committed_v1', 'create_project_v1', 'delete_project_v1', 'due_deletions_v1',
        'end_deletion_v1', 'expire_projects_v1', 'expire_uploads_v1', 'find_upload_v1',
        'finish_job_v1', 'finish_upload_v1', 'finish_webhook_v1', 'get_job_v1', 'get_project_v1',
        'heartbeat_v1', 'heartbeat_v2', 'inspect_v1', 'job_events_v1', 'job_events_v2',
        'jobs_to_sweep_v1', 'list_projects_v1', 'mark_swept_v1', 'project_detail_v1',
        'project_events_v1', 'project_jobs_v1', 'purge_project_v1', 'queue_v1',
        'referenced_paths_v1', 'release_job_v1', 'release_job_v2', 'schema_version_v1',
        'submit_job_v1', 'submit_job_v2'],
    p_parts => array[
        'add_job_event_v1', 'add_job_state_event_v1', 'add_project_v1', 'ago_v1',
        'check_lease_v1', 'check_limit_v1', 'end_job_v1', 'expected_seconds_v1',
        'guard_functions_v1', 'guard_tables_v1', 'is_forgotten_v1', 'is_marked_v1',
        'job_document_v1', 'lock_attempt_v1', 'lock_project_v1', 'mark_project_v1',
        'project_document_v1', 'project_name_key_v1', 'queue_order_v1', 'show_job_on_project_v1',
        'stage_memory_v1', 'stage_status_v1', 'touch_updated_at']);

select public.guard_tables_v1(array[
    'projects', 'jobs', 'job_events', 'job_stages', 'multiview_generation', 'depth_maps',
    'gaussian_splat_models', 'enhancement_iterations', 'refinement_metrics', 'enhanced_views',
    'export_history', 'model_previews', 'contact_sheets', 'deletions', 'webhooks',
    'project_summary', 'refinement_progress']);
