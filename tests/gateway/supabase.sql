-- What a new Supabase project has and our migrations meet: the API roles, the schemas auth and
-- storage, row level security on the storage tables, and default privileges that give the API
-- roles everything in public. Only what the gateway and policies use; see __init__.py.

-- Roles belong to the whole server: one preparation at a time, whatever the database.
lock table pg_catalog.pg_authid in share row exclusive mode;

do $$
begin
    if not exists (select from pg_roles where rolname = 'anon') then
        create role anon nologin noinherit;
    end if;
    if not exists (select from pg_roles where rolname = 'authenticated') then
        create role authenticated nologin noinherit;
    end if;
    if not exists (select from pg_roles where rolname = 'service_role') then
        create role service_role nologin noinherit bypassrls;
    end if;
    if not exists (select from pg_roles where rolname = 'authenticator') then
        create role authenticator login noinherit;
        grant anon, authenticated, service_role to authenticator;
    end if;
    if not exists (select from pg_roles where rolname = 'supabase_storage_admin') then
        create role supabase_storage_admin login noinherit;
    end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- public: whatever the migrating role creates, the API roles may use
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public
    grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public
    grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public
    grant all on sequences to anon, authenticated, service_role;

-- ---------------------------------------------------------------------------------------------
-- auth: who asks
create schema auth;
grant usage on schema auth to anon, authenticated, service_role;

create function auth.jwt() returns jsonb language sql stable as $$
    select coalesce(nullif(current_setting('request.jwt.claims', true), ''), '{}')::jsonb
$$;
create function auth.uid() returns uuid language sql stable as $$
    select (auth.jwt() ->> 'sub')::uuid
$$;
create function auth.role() returns text language sql stable as $$
    select auth.jwt() ->> 'role'
$$;

-- ---------------------------------------------------------------------------------------------
-- storage
create schema storage;
grant usage, create on schema storage to supabase_storage_admin;
grant usage on schema storage to anon, authenticated, service_role;

create type storage.buckettype as enum ('STANDARD', 'ANALYTICS');

create table storage.buckets (
    id text primary key,
    name text not null unique,
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    public boolean default false,
    avif_autodetection boolean default false,
    file_size_limit bigint,
    allowed_mime_types text[],
    owner_id text,
    type storage.buckettype not null default 'STANDARD',
    versioning_status text not null default 'DISABLED' check (versioning_status = 'DISABLED')
);

create table storage.objects (
    id uuid primary key default gen_random_uuid(),
    bucket_id text references storage.buckets (id),
    name text,
    owner uuid,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    last_accessed_at timestamptz default now(),
    metadata jsonb,
    path_tokens text[] generated always as (string_to_array(name, '/')) stored,
    version text,
    owner_id text,
    user_metadata jsonb,
    archived_at timestamptz,
    is_delete_marker boolean not null default false,
    is_versioned boolean not null default false
);
create unique index bucketid_objname on storage.objects (bucket_id, name);
create index idx_objects_bucket_id_name on storage.objects (bucket_id, name collate "C");

create function storage.foldername(name text) returns text[] language sql immutable as $$
    select parts[1 : cardinality(parts) - 1] from string_to_array(name, '/') as parts
$$;
create function storage.filename(name text) returns text language sql immutable as $$
    select split_part(name, '/', -1)
$$;
create function storage.extension(name text) returns text language sql immutable as $$
    select split_part(split_part(name, '/', -1), '.', -1)
$$;
create function storage.operation() returns text language sql stable as $$
    select current_setting('storage.operation', true)
$$;
create function storage.allow_any_operation(expected_operations text[]) returns boolean
language sql stable as $$
    select coalesce(regexp_replace(storage.operation(), '^storage\.', '') = any (
        select regexp_replace(expected, '^storage\.', '') from unnest(expected_operations) expected
    ), false)
$$;
create function storage.allow_only_operation(expected_operation text) returns boolean
language sql stable as $$
    select storage.allow_any_operation(array[expected_operation])
$$;

create function storage.touch_updated_at() returns trigger language plpgsql as $$
begin
    new.updated_at := now();
    return new;
end
$$;
create trigger update_objects_updated_at before update on storage.objects
    for each row execute function storage.touch_updated_at();

create function storage.check_bucket_name() returns trigger language plpgsql as $$
begin
    if length(new.name) > 100 then
        raise exception 'bucket name "%" is too long (% characters). Max is 100.',
            new.name, length(new.name);
    end if;
    return new;
end
$$;
create trigger enforce_bucket_name_length_trigger before insert or update of name
    on storage.buckets for each row execute function storage.check_bucket_name();

-- Rows go through the Storage API alone, which sets this for its transactions.
create function storage.protect_delete() returns trigger language plpgsql as $$
begin
    if coalesce(current_setting('storage.allow_delete_query', true), '') <> 'true' then
        raise exception
            'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
            using errcode = '42501';
    end if;
    return null;
end
$$;
create trigger protect_buckets_delete before delete on storage.buckets
    for each statement execute function storage.protect_delete();
create trigger protect_objects_delete before delete on storage.objects
    for each statement execute function storage.protect_delete();

alter table storage.buckets owner to supabase_storage_admin;
alter table storage.objects owner to supabase_storage_admin;
alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
grant all on storage.buckets, storage.objects to anon, authenticated, service_role;

-- A project's migrations run as a role that is no superuser and owns neither schema. It may add
-- policies and triggers there, and rows; a superuser has to be told.
create function storage.refuse_foreign_ddl() returns event_trigger language plpgsql as $$
declare
    command record;
begin
    for command in select * from pg_event_trigger_ddl_commands() loop
        if (command.schema_name in ('auth', 'storage')
                or command.object_identity ~ ' on (auth|storage)\.')
            and command.command_tag not in
                ('CREATE POLICY', 'ALTER POLICY', 'DROP POLICY', 'CREATE TRIGGER')
        then
            raise exception 'must be owner of % (a project may not %)',
                command.object_identity, lower(command.command_tag) using errcode = '42501';
        end if;
    end loop;
end
$$;
create event trigger refuse_foreign_ddl on ddl_command_end
    execute function storage.refuse_foreign_ddl();
