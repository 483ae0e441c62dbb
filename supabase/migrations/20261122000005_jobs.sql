-- Jobs that take turns, tell what they do and how long it will take, and wait before they are tried
-- again; uploads in two steps; lists of projects; deletion and expiry; what a sweep of the files
-- needs; messages about ended jobs. Documents only gained names and changed signatures are new
-- functions (`_v2`), to which the old ones lead, so replicas of the release before can share the
-- database.
--
--   projects 1-1 deletions (outlives the project)     jobs 1-1 webhooks
--
-- Locks, in this order: the project's name (lock_project_v1: submit, upload, delete, purge,
-- expire), its mark, job, project. Who holds a job's lock never waits for a name.

create or replace function public.schema_version_v1() returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select '20261122000005'
$$;

-- ---------------------------------------------------------------------------------------------
-- projects: an upload's key, until the project is marked for deletion
alter table public.projects
    add column if not exists idempotency_key text
        constraint projects_idempotency_key_is_unique unique
        constraint projects_idempotency_key_has_1_to_255_characters check (
            length(idempotency_key) between 1 and 255),
    add column if not exists fingerprint text;
-- lists, expiry
create index if not exists projects_by_time on public.projects (created_at, id);
create index if not exists projects_by_status_and_time on public.projects (status, created_at, id);

-- ---------------------------------------------------------------------------------------------
-- jobs
--
-- client: takes turns with other clients. shape: jobs of one kind and shape take as long.
-- step: what the stage is doing, for people. told_progress: of the newest event that had one.
-- not_before: a job that was given back waits so long. last_error: why it was given back last.
-- swept_at: the files of its project were compared with the rows after its end.
alter table public.jobs
    add column if not exists client text not null default '',
    add column if not exists shape text not null default '',
    add column if not exists step text not null default '',
    add column if not exists step_started_at timestamptz,
    add column if not exists told_progress double precision not null default 0,
    add column if not exists not_before timestamptz,
    add column if not exists last_error jsonb,
    add column if not exists webhook_url text
        constraint jobs_webhook_url_is_set check (webhook_url <> ''),
    add column if not exists swept_at timestamptz;
-- when a client was served last
create index if not exists jobs_of_client on public.jobs (client, started_at);
-- how long similar jobs took
create index if not exists jobs_alike on public.jobs (kind, shape, finished_at desc)
    where state = 'succeeded';
create index if not exists jobs_to_sweep on public.jobs (finished_at)
    where swept_at is null and (state in ('failed', 'cancelled')
                                or (state = 'succeeded' and fence > 1));

alter table public.job_events drop constraint if exists job_events_kind_is_known;
alter table public.job_events add constraint job_events_kind_is_known
    check (kind in ('state', 'stage', 'progress', 'commit', 'cancel'));

-- ---------------------------------------------------------------------------------------------
-- Projects that are to go. The mark outlives the rows, for attempts that lost their lease may still
-- write files; it goes when the files were deleted a while after the rows.
create table if not exists public.deletions (
    project_id text primary key,
    requested_at timestamptz not null default clock_timestamp(),
    purged_at timestamptz
);
create index if not exists deletions_oldest_first on public.deletions (requested_at);

-- Messages about ended jobs, written in the transaction that ends the job.
--
--   pending --claim--> pending, not due for a while --finish--> delivered | pending | given_up
create table if not exists public.webhooks (
    job_id text primary key references public.jobs (id) on delete cascade,
    url text not null,
    attempts integer not null default 0
        constraint webhooks_attempts_is_not_negative check (attempts >= 0),
    state text not null default 'pending'
        constraint webhooks_state_is_known check (state in ('pending', 'delivered', 'given_up')),
    next_at timestamptz not null default clock_timestamp(),
    last_error text,
    created_at timestamptz not null default clock_timestamp()
);
create index if not exists webhooks_due on public.webhooks (next_at) where state = 'pending';

alter table public.deletions enable row level security;
alter table public.webhooks enable row level security;
comment on table public.deletions is 'Projects that are to go, and when their rows went.';
comment on table public.webhooks is 'Messages about ended jobs: who is told, and how it went.';

-- ---------------------------------------------------------------------------------------------
-- documents

create or replace function public.project_document_v1(p_project public.projects) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select to_jsonb(p_project) - array['idempotency_key', 'fingerprint']
$$;

-- Queued jobs in the order in which claims will take them. Begun jobs go first. Then clients take
-- turns: a client's n-th waiting job comes in round n + what it has under way. In a round the client
-- that was served the longest time ago goes first; one that had its turn in the round before
-- (turn > 1) was served later than all that had not, and in that round's order.
create or replace function public.queue_order_v1() returns table (job_id text, place bigint)
language sql stable set search_path = public, pg_temp as $$
    with waiting as (
        select j.id, j.client, j.queue_number, j.started_at is not null as begun,
               row_number() over (
                   partition by j.client, j.started_at is not null order by j.queue_number) as turn
          from jobs j where j.state = 'queued'
    ), clients as (
        select j.client, count(j.started_at) as under_way,
               min(j.queue_number) filter (where j.started_at is null) as first_number,
               (select max(s.started_at) from jobs s where s.client = j.client) as served_at
          from jobs j where j.state in ('queued', 'running') group by j.client
    )
    select w.id, row_number() over (order by
               w.begun desc, case when w.begun then w.queue_number end,
               c.under_way + w.turn, w.turn, c.served_at nulls first, c.first_number)
      from waiting w join clients c on c.client = w.client
$$;

-- Peak memory by process: `memory` of a stage's detail, or as the release before wrote it.
create or replace function public.stage_memory_v1(p_detail jsonb) returns jsonb
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select coalesce(jsonb_object_agg(m.key, m.value), '{}')
      from jsonb_each(case
               when jsonb_typeof(p_detail -> 'memory') = 'object' then p_detail -> 'memory'
               when jsonb_typeof(p_detail -> 'replica_peak_memory_bytes') = 'object'
                   then p_detail -> 'replica_peak_memory_bytes'
                        || jsonb_build_object('Driver', p_detail -> 'peak_memory_bytes')
               else jsonb_build_object('Driver', p_detail -> 'peak_memory_bytes') end) m
     where jsonb_typeof(m.value) = 'number'
$$;

-- Mean seconds per job and stage, of the newest jobs of a kind and shape that succeeded; numbered
-- stages of one job count together.
create or replace function public.expected_seconds_v1(p_kind text, p_shape text) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    with alike as (
        select id from jobs
         where state = 'succeeded' and kind = p_kind and shape = p_shape
         order by finished_at desc limit 20
    )
    select coalesce(jsonb_object_agg(t.name, t.seconds / (select count(*) from alike)), '{}')
      from (select regexp_replace(s.stage, '-v?[0-9]+$', '') as name, sum(s.seconds) as seconds
              from job_stages s join alike a on a.id = s.job_id group by 1) t
$$;

create or replace function public.job_document_v1(p_job public.jobs) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object(
        'id', p_job.id,
        'number', p_job.queue_number,
        'project_id', p_job.project_id,
        'kind', p_job.kind,
        'state', p_job.state,
        'options', p_job.options,
        'stage', p_job.stage,
        'step', p_job.step,
        'progress', p_job.progress,
        'attempt', p_job.attempt,
        'max_attempts', p_job.max_attempts,
        'fence', p_job.fence,
        'cancel_requested', p_job.cancel_requested,
        'timings', (
            select coalesce(jsonb_object_agg(s.stage, s.seconds), '{}')
              from job_stages s where s.job_id = p_job.id),
        'memory', (
            select coalesce(jsonb_object_agg(m.stage, m.memory), '{}')
              from (select s.stage, stage_memory_v1(s.detail) as memory
                      from job_stages s where s.job_id = p_job.id) m
             where m.memory <> '{}'),
        'expected', case when p_job.state in ('queued', 'running')
            then expected_seconds_v1(p_job.kind, p_job.shape) else '{}' end,
        'error', p_job.error,
        'last_error', p_job.last_error,
        'result', p_job.result,
        'queue_position', case when p_job.state = 'queued' then (
            select o.place from queue_order_v1() o where o.job_id = p_job.id) end,
        'ordinal', (
            select count(*) from jobs o
             where o.project_id = p_job.project_id and o.kind = p_job.kind
               and o.queue_number <= p_job.queue_number),
        'created_at', p_job.created_at,
        'step_started_at', p_job.step_started_at,
        'started_at', p_job.started_at,
        'finished_at', p_job.finished_at)
$$;

-- ---------------------------------------------------------------------------------------------
-- parts of the steps below

create or replace function public.check_limit_v1(p_limit integer) returns void
language plpgsql immutable set search_path = public, pg_temp as $$
begin
    if p_limit is null or p_limit not between 1 and 10000 then
        raise exception using errcode = 'GL400',
            message = format('limit must be 1 to 10000, not %s.', p_limit);
    end if;
end
$$;

-- Before `now` by so many seconds, or after it by so many when they are negative.
create or replace function public.ago_v1(p_seconds double precision) returns timestamptz
language plpgsql volatile set search_path = public, pg_temp as $$
begin
    if p_seconds is null or not (abs(p_seconds) <= 1e10) then
        raise exception using errcode = 'GL400',
            message = format('%s is not a number of seconds.', p_seconds);
    end if;
    return clock_timestamp() - make_interval(secs => p_seconds);
end
$$;

create or replace function public.project_name_key_v1(p_project_id text) returns bigint
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select hashtextextended('glimpse3d project ' || p_project_id, 0)
$$;

-- Until the end of the transaction: nobody else submits to, finishes, marks or purges the project.
-- Rows do not do: the mark must be seen before a job is, and a job is locked before its project.
create or replace function public.lock_project_v1(p_project_id text) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    perform pg_advisory_xact_lock(project_name_key_v1(p_project_id));
end
$$;

create or replace function public.is_marked_v1(p_project_id text) returns boolean
language sql stable set search_path = public, pg_temp as $$
    select exists (select 1 from deletions where project_id = p_project_id)
$$;

-- The caller holds the project's name.
create or replace function public.mark_project_v1(p_project_id text) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    insert into deletions (project_id) values (p_project_id) on conflict do nothing;
    -- Whoever uploads with the key again wants a project that stays.
    update projects set idempotency_key = null
     where id = p_project_id and idempotency_key is not null;
end
$$;

-- The caller holds the lock on the job.
create or replace function public.add_job_event_v1(p_job_id text, p_kind text, p_data jsonb)
returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_seq bigint;
    v_project_id text;
begin
    update jobs
       set last_event = last_event + 1,
           told_progress = greatest(
               told_progress, (p_data ->> 'progress')::double precision),
           -- Here and not in each caller: a stage begins, or its next part after a commit.
           step_started_at = case when p_kind in ('stage', 'commit')
               then clock_timestamp() else step_started_at end
     where id = p_job_id
    returning last_event, project_id into v_seq, v_project_id;
    insert into job_events (job_id, seq, kind, data) values (p_job_id, v_seq, p_kind, p_data);
    -- Wakes who listens, after the commit; the payload is the id and nothing more.
    perform pg_notify('glimpse3d_jobs', p_job_id);
    perform pg_notify('glimpse3d_projects', v_project_id);
end
$$;

-- queued | running -> succeeded | failed | cancelled
create or replace function public.end_job_v1(
    p_job_id text, p_state text, p_result jsonb, p_error jsonb)
returns public.jobs
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    update jobs
       set state = p_state,
           step = '',
           progress = case when p_state = 'succeeded' then 1 else progress end,
           result = case when p_state = 'succeeded' then coalesce(p_result, '{}') end,
           error = p_error,
           worker = null,
           lease_expires_at = null,
           not_before = null,
           finished_at = clock_timestamp()
     where id = p_job_id
    returning * into v_job;
    if v_job.webhook_url is not null then
        insert into webhooks (job_id, url) values (v_job.id, v_job.webhook_url)
        on conflict (job_id) do nothing;
    end if;
    perform add_job_state_event_v1(v_job);
    perform show_job_on_project_v1(v_job);
    return v_job;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- projects

create or replace function public.add_project_v1(
    p_project_id text, p_original_path text, p_processed_path text, p_background_engine text,
    p_status text)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    perform lock_project_v1(p_project_id);
    -- The files of a project of this name are still to be deleted.
    if not is_marked_v1(p_project_id) then
        insert into projects (id, original_path, processed_path, background_engine, status)
        values (p_project_id, p_original_path, p_processed_path, p_background_engine, p_status)
        on conflict (id) do nothing
        returning * into v_project;
    end if;
    if v_project.id is null then
        raise exception using errcode = 'GL409',
            message = format('There is a project %s already.', p_project_id);
    end if;
    return project_document_v1(v_project);
end
$$;

-- -> ready
create or replace function public.create_project_v1(
    p_project_id text, p_original_path text, p_processed_path text, p_background_engine text)
returns jsonb
language sql set search_path = public, pg_temp as $$
    select add_project_v1(
        p_project_id, p_original_path, p_processed_path, p_background_engine, 'ready')
$$;

-- -> uploading
create or replace function public.begin_upload_v1(
    p_project_id text, p_original_path text, p_processed_path text, p_background_engine text)
returns jsonb
language sql set search_path = public, pg_temp as $$
    select add_project_v1(
        p_project_id, p_original_path, p_processed_path, p_background_engine, 'uploading')
$$;

-- uploading -> ready; an upload that did not hear the answer may ask again. When the key is taken,
-- the project is marked for deletion, so a mismatch is an answer and not an error, which would take
-- the mark back: {project, created} or {mismatch}, a sentence.
create or replace function public.finish_upload_v1(
    p_project_id text, p_idempotency_key text default null, p_fingerprint text default '')
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_project projects;
    v_other projects;
begin
    perform lock_project_v1(p_project_id);
    select * into v_project from projects where id = p_project_id for update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no upload %s any more.', p_project_id);
    end if;
    if v_project.status <> 'uploading' then
        if v_project.idempotency_key is distinct from p_idempotency_key then
            raise exception using errcode = 'GL409',
                message = format('Project %s is uploaded already.', p_project_id);
        end if;
        return jsonb_build_object('project', project_document_v1(v_project), 'created', true);
    end if;
    loop
        begin
            -- Waits for another upload that is finishing with this key.
            update projects
               set status = 'ready', idempotency_key = p_idempotency_key,
                   fingerprint = p_fingerprint
             where id = p_project_id
            returning * into v_project;
            return jsonb_build_object('project', project_document_v1(v_project), 'created', true);
        exception when unique_violation then
            null;
        end;
        select * into v_other from projects where idempotency_key = p_idempotency_key;
        exit when found;  -- else it was marked for deletion in between, and the key is free
    end loop;
    perform mark_project_v1(p_project_id);
    if v_other.fingerprint is distinct from p_fingerprint then
        return jsonb_build_object('mismatch', format(
            'Idempotency key %s belongs to another request.', p_idempotency_key));
    end if;
    return jsonb_build_object('project', project_document_v1(v_other), 'created', false);
end
$$;

-- Null when the key is not known. Only ready projects have one, and only until they are marked.
create or replace function public.find_upload_v1(p_idempotency_key text, p_fingerprint text)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    select * into v_project from projects where idempotency_key = p_idempotency_key;
    if not found then
        return null;
    end if;
    if v_project.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return project_document_v1(v_project);
end
$$;

-- {projects, more}. p_after_at is text in ISO format, which every caller can send.
create or replace function public.list_projects_v1(
    p_status text default null, p_after_at text default null, p_after_id text default null,
    p_limit integer default 20)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_projects jsonb;
begin
    perform check_limit_v1(p_limit);
    select coalesce(jsonb_agg(
               project_document_v1(p.project) order by p.created_at desc, p.id desc), '[]')
      into v_projects
      from (select c as project, c.created_at, c.id from projects c
             where c.status <> 'uploading' and not is_marked_v1(c.id)
               and (p_status is null or c.status = p_status)
               and (p_after_at is null
                    or (c.created_at, c.id) < (p_after_at::timestamptz, p_after_id))
             order by c.created_at desc, c.id desc limit p_limit + 1) p;
    return jsonb_build_object(
        'projects', case when jsonb_array_length(v_projects) > p_limit
            then v_projects - p_limit else v_projects end,
        'more', jsonb_array_length(v_projects) > p_limit);
end
$$;

-- The running job, which was asked to stop, or null.
create or replace function public.delete_project_v1(p_project_id text) returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job_id text;
    v_job jsonb;
begin
    perform lock_project_v1(p_project_id);
    perform 1 from projects where id = p_project_id;
    if not found then
        if not is_marked_v1(p_project_id) then
            raise exception using errcode = 'GL404',
                message = format('There is no project %s.', p_project_id);
        end if;
        return null;
    end if;
    select id into v_job_id from jobs
     where project_id = p_project_id and state in ('queued', 'running');
    if found then
        v_job := cancel_job_v1(v_job_id);
    end if;
    perform mark_project_v1(p_project_id);
    return case when v_job ->> 'state' = 'running' then v_job end;
end
$$;

create or replace function public.purge_project_v1(p_project_id text) returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    perform lock_project_v1(p_project_id);
    perform 1 from deletions where project_id = p_project_id for update;
    if not found then
        if exists (select 1 from projects where id = p_project_id) then
            raise exception using errcode = 'GL409',
                message = format('Project %s is not marked for deletion.', p_project_id);
        end if;
        return true;
    end if;
    perform 1 from jobs where project_id = p_project_id order by id for update;
    if exists (select 1 from jobs where project_id = p_project_id and state = 'running'
                  and lease_expires_at > clock_timestamp()) then
        return false;
    end if;
    perform pg_notify('glimpse3d_jobs', id) from jobs where project_id = p_project_id;
    delete from projects where id = p_project_id;
    update deletions set purged_at = coalesce(purged_at, clock_timestamp())
     where project_id = p_project_id;
    perform pg_notify('glimpse3d_projects', p_project_id);
    return true;
end
$$;

create or replace function public.due_deletions_v1(
    p_grace_s double precision, p_limit integer default 20)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_before constant timestamptz := ago_v1(p_grace_s);
begin
    perform check_limit_v1(p_limit);
    return (
        select coalesce(jsonb_agg(d.project_id order by d.requested_at, d.project_id), '[]')
          from (select * from deletions
                 where purged_at is null or purged_at <= v_before
                 order by requested_at, project_id limit p_limit) d);
end
$$;

-- Whether the mark is gone.
create or replace function public.end_deletion_v1(p_project_id text, p_grace_s double precision)
returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    delete from deletions where project_id = p_project_id and purged_at <= ago_v1(p_grace_s);
    return not is_marked_v1(p_project_id);
end
$$;

-- Whether a project without a queued or running job may go: nothing has happened since then.
create or replace function public.is_forgotten_v1(p_project_id text, p_since timestamptz)
returns boolean
language sql stable set search_path = public, pg_temp as $$
    select not is_marked_v1(p_project_id) and not exists (
        select 1 from jobs j where j.project_id = p_project_id
           and (j.finished_at is null or j.finished_at > p_since))
$$;

-- any but uploading -> marked for deletion
create or replace function public.expire_projects_v1(
    p_ttl_s double precision, p_limit integer default 20)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_since constant timestamptz := ago_v1(p_ttl_s);
    v_id text;
    v_ids jsonb := '[]';
begin
    perform check_limit_v1(p_limit);
    for v_id in
        select p.id from projects p
         where p.status <> 'uploading' and p.created_at <= v_since
           and is_forgotten_v1(p.id, v_since)
         order by p.created_at, p.id limit p_limit
    loop
        -- Somebody who has the name is doing something with the project; a job may be new.
        if pg_try_advisory_xact_lock(project_name_key_v1(v_id))
                and is_forgotten_v1(v_id, v_since) then
            perform mark_project_v1(v_id);
            v_ids := v_ids || to_jsonb(v_id);
        end if;
    end loop;
    return v_ids;
end
$$;

-- uploading -> marked for deletion
create or replace function public.expire_uploads_v1(
    p_age_s double precision, p_limit integer default 20)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_since constant timestamptz := ago_v1(p_age_s);
    v_id text;
    v_ids jsonb := '[]';
begin
    perform check_limit_v1(p_limit);
    for v_id in
        select p.id from projects p
         where p.status = 'uploading' and p.created_at <= v_since and not is_marked_v1(p.id)
         order by p.created_at, p.id limit p_limit
    loop
        if pg_try_advisory_xact_lock(project_name_key_v1(v_id)) and not is_marked_v1(v_id)
                and exists (select 1 from projects where id = v_id and status = 'uploading') then
            perform mark_project_v1(v_id);
            v_ids := v_ids || to_jsonb(v_id);
        end if;
    end loop;
    return v_ids;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- jobs, from the outside

-- -> queued
create or replace function public.submit_job_v2(
    p_project_id text, p_kind text, p_options jsonb, p_fingerprint text,
    p_idempotency_key text default null, p_max_attempts integer default 3,
    p_max_queued integer default null, p_client text default '', p_shape text default '',
    p_webhook_url text default null)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_status text;
    v_job jobs;
    v_busy text;
begin
    perform lock_project_v1(p_project_id);
    -- Two submissions to one project come one after the other from here.
    select status into v_status from projects where id = p_project_id for no key update;
    if not found or is_marked_v1(p_project_id) then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    if v_status = 'uploading' then
        raise exception using errcode = 'GL409',
            message = format('Project %s is not uploaded yet.', p_project_id);
    end if;

    select * into v_job from jobs where idempotency_key = p_idempotency_key;
    if not found then
        select id into v_busy from jobs
         where project_id = p_project_id and state in ('queued', 'running');
        if found then
            raise exception using errcode = 'GL423', detail = v_busy, message = format(
                'Project %s is busy with job %s.', p_project_id, v_busy);
        end if;
        if p_kind <> 'generate' and not exists (
                select 1 from gaussian_splat_models where project_id = p_project_id) then
            raise exception using errcode = 'GL425', message = format(
                'Project %s has no model yet: generate one before %s.', p_project_id, p_kind);
        end if;

        -- Submissions to other projects may slip in between: a few jobs too many do no harm.
        if p_max_queued <= (select count(*) from jobs where state = 'queued') then
            raise exception using errcode = 'GL503', message = format(
                '%s jobs are waiting already.', p_max_queued);
        end if;

        insert into jobs (
            project_id, kind, options, fingerprint, idempotency_key, max_attempts, client, shape,
            webhook_url)
        values (
            p_project_id, p_kind, p_options, p_fingerprint, p_idempotency_key, p_max_attempts,
            p_client, p_shape, p_webhook_url)
        on conflict (idempotency_key) do nothing
        returning * into v_job;
        if found then
            perform add_job_state_event_v1(v_job);
            perform show_job_on_project_v1(v_job);
            return jsonb_build_object('job', job_document_v1(v_job), 'created', true);
        end if;
        -- Somebody used the key for another project a moment ago.
        select * into v_job from jobs where idempotency_key = p_idempotency_key;
    end if;

    if v_job.fingerprint is distinct from p_fingerprint then
        raise exception using errcode = 'GL422', message = format(
            'Idempotency key %s belongs to another request.', p_idempotency_key);
    end if;
    return jsonb_build_object('job', job_document_v1(v_job), 'created', false);
end
$$;

create or replace function public.submit_job_v1(
    p_project_id text, p_kind text, p_options jsonb, p_fingerprint text,
    p_idempotency_key text default null, p_max_attempts integer default 3,
    p_max_queued integer default null)
returns jsonb
language sql set search_path = public, pg_temp as $$
    select submit_job_v2(
        p_project_id, p_kind, p_options, p_fingerprint, p_idempotency_key, p_max_attempts,
        p_max_queued)
$$;

-- {queued, running}, each {kind: number}
create or replace function public.queue_v1() returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object('queued', '{}'::jsonb, 'running', '{}'::jsonb)
           || coalesce(jsonb_object_agg(s.state, s.kinds), '{}')
      from (select c.state, jsonb_object_agg(c.kind, c.jobs) as kinds
              from (select state, kind, count(*) as jobs from jobs
                     where state in ('queued', 'running') group by state, kind) c
             group by c.state) s
$$;

create or replace function public.job_events_v2(
    p_job_id text, p_after bigint default 0, p_limit integer default 200)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_number bigint;
begin
    perform check_limit_v1(p_limit);
    select queue_number into v_number from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return (
        select coalesce(jsonb_agg(
                   to_jsonb(e) || jsonb_build_object('job_number', v_number) order by e.seq), '[]')
          from (select * from job_events
                 where job_id = p_job_id and seq > p_after
                 order by seq limit p_limit) e);
end
$$;

create or replace function public.project_events_v1(
    p_project_id text, p_after_job bigint default 0, p_after_seq bigint default 0,
    p_limit integer default 200)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
begin
    perform check_limit_v1(p_limit);
    perform 1 from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return (
        select coalesce(jsonb_agg(to_jsonb(e) order by e.job_number, e.seq), '[]')
          from (select v.*, j.queue_number as job_number
                  from jobs j join job_events v on v.job_id = j.id
                 where j.project_id = p_project_id
                   and j.queue_number >= p_after_job
                   and (j.queue_number > p_after_job or v.seq > p_after_seq)
                 order by j.queue_number, v.seq limit p_limit) e);
end
$$;

-- ---------------------------------------------------------------------------------------------
-- jobs, from the driver

-- queued -> running; running with an expired lease -> running | failed | cancelled
-- Returns null when there is nothing to do.
create or replace function public.claim_job_v1(p_worker text, p_lease_s double precision)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_id text;
    v_job jobs;
begin
    perform check_lease_v1(p_lease_s);
    loop
        select * into v_job from jobs
         where state = 'running' and lease_expires_at <= clock_timestamp()
         order by queue_number
         for update skip locked
         limit 1;
        if v_job.id is null then
            -- The order is of a moment ago: another claimer may have taken the first ones since.
            for v_id in select o.job_id from queue_order_v1() o order by o.place loop
                select * into v_job from jobs
                 where id = v_id and state = 'queued'
                   and (not_before is null or not_before <= clock_timestamp())
                 for update skip locked;
                exit when found;
            end loop;
        end if;
        exit when v_job.id is null;

        if v_job.cancel_requested then
            perform end_job_v1(v_job.id, 'cancelled', null, null);
        elsif v_job.attempt >= v_job.max_attempts then
            perform end_job_v1(v_job.id, 'failed', null, jsonb_build_object(
                'code', 'attempts_exhausted',
                'detail', format('The job was given up after %s attempts: the last one stopped '
                    'without an answer%s.', v_job.attempt,
                    case when v_job.stage <> '' then format(' in stage %s', v_job.stage) end),
                'stage', v_job.stage,
                'retryable', true));
        else
            update jobs
               set state = 'running',
                   fence = fence + 1,
                   attempt = attempt + 1,
                   stage = '',  -- until the driver's first heartbeat
                   step = '',
                   step_started_at = clock_timestamp(),
                   not_before = null,
                   worker = p_worker,
                   lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_s),
                   started_at = coalesce(started_at, clock_timestamp())
             where id = v_job.id
            returning * into v_job;
            perform add_job_state_event_v1(v_job);
            perform show_job_on_project_v1(v_job);
            return jsonb_build_object('job', job_document_v1(v_job), 'fence', v_job.fence);
        end if;
    end loop;
    return null;
end
$$;

-- running -> running. A job that is gone is not owned: its project was deleted.
create or replace function public.heartbeat_v2(
    p_job_id text, p_fence bigint, p_lease_s double precision, p_stage text,
    p_progress double precision, p_step text default '')
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_before jobs;
    v_job jobs;
    v_data jsonb;
begin
    perform check_lease_v1(p_lease_s);
    select * into v_before from jobs
     where id = p_job_id and fence = p_fence and state = 'running' for update;
    if not found then
        return jsonb_build_object('owned', false, 'cancel_requested', coalesce(
            (select cancel_requested from jobs where id = p_job_id), false));
    end if;
    update jobs
       set lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_s),
           stage = coalesce(nullif(p_stage, ''), stage),
           step = left(coalesce(p_step, ''), 200),
           progress = least(greatest(progress, coalesce(nullif(p_progress, 'NaN'), 0)), 1)
     where id = p_job_id
    returning * into v_job;
    v_data := jsonb_strip_nulls(jsonb_build_object(
        'stage', v_job.stage, 'step', nullif(v_job.step, ''), 'progress', v_job.progress,
        'attempt', v_job.attempt));
    if v_job.stage <> v_before.stage then
        perform add_job_event_v1(p_job_id, 'stage', v_data);
    -- A little less than a percent: 0.29 - 0.28 is below 0.01.
    elsif v_job.progress - v_before.told_progress >= 0.01 - 1e-9 then
        perform add_job_event_v1(p_job_id, 'progress', v_data);
    end if;
    perform show_job_on_project_v1(v_job);
    return jsonb_build_object('owned', true, 'cancel_requested', v_job.cancel_requested);
end
$$;

create or replace function public.heartbeat_v1(
    p_job_id text, p_fence bigint, p_lease_s double precision, p_stage text,
    p_progress double precision)
returns jsonb
language sql set search_path = public, pg_temp as $$
    select heartbeat_v2(p_job_id, p_fence, p_lease_s, p_stage, p_progress)
$$;

-- running -> queued; -> cancelled when that was asked for. Without an error the attempt does not
-- count (its driver was drained); with one it does, and the last one fails the job with it.
create or replace function public.release_job_v2(
    p_job_id text, p_fence bigint, p_error jsonb default null,
    p_delay_s double precision default 0)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
    v_told jobs;
begin
    if p_delay_s is null or p_delay_s not between 0 and 86400 then
        raise exception using errcode = 'GL400',
            message = format('delay_s must be 0 to 86400, not %s.', p_delay_s);
    end if;
    if p_error is not null then
        update jobs set last_error = p_error where id = p_job_id;
    end if;
    if v_job.cancel_requested then
        return job_document_v1(end_job_v1(p_job_id, 'cancelled', null, null));
    end if;
    if p_error is not null and v_job.attempt >= v_job.max_attempts then
        return job_document_v1(end_job_v1(p_job_id, 'failed', null, p_error));
    end if;
    update jobs
       set state = 'queued', step = '', worker = null, lease_expires_at = null,
           not_before = case when p_delay_s > 0 then ago_v1(-p_delay_s) end,
           attempt = case when p_error is null then attempt - 1 else attempt end
     where id = p_job_id
    returning * into v_job;
    -- The job has no error, it goes on; its event says why it has to.
    v_told := v_job;
    v_told.error := p_error;
    perform add_job_state_event_v1(v_told);
    perform show_job_on_project_v1(v_job);
    return job_document_v1(v_job);
end
$$;

create or replace function public.release_job_v1(
    p_job_id text, p_fence bigint, p_error jsonb default null)
returns jsonb
language sql set search_path = public, pg_temp as $$
    select release_job_v2(p_job_id, p_fence, p_error)
$$;

-- ---------------------------------------------------------------------------------------------
-- files without rows

-- Not of projects that are busy or marked: those have to wait, and would stand in the way of others.
create or replace function public.jobs_to_sweep_v1(p_limit integer default 20) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
begin
    perform check_limit_v1(p_limit);
    return (
        select coalesce(jsonb_agg(
                   job_document_v1(j.job) order by j.finished_at, j.queue_number), '[]')
          from (select c as job, c.finished_at, c.queue_number from jobs c
                 where c.swept_at is null and (c.state in ('failed', 'cancelled')
                                               or (c.state = 'succeeded' and c.fence > 1))
                   and not is_marked_v1(c.project_id)
                   and not exists (select 1 from jobs a where a.project_id = c.project_id
                                      and a.state in ('queued', 'running'))
                 order by c.finished_at, c.queue_number limit p_limit) j);
end
$$;

-- {bucket: [path, ...]}: every `*_path` of every table, and `files` (name to path) of stages. Files
-- of a stage that is not known here count in every bucket: better one too many is kept.
create or replace function public.referenced_paths_v1(p_project_id text) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    with named (bucket, path) as (
        select 'project-uploads', original_path from projects where id = p_project_id
        union select 'processed-images', processed_path from projects where id = p_project_id
        union select 'multiview-images', image_path from multiview_generation
               where project_id = p_project_id
        union select 'depth-maps', unnest(array[depth_path, heat_map_path]) from depth_maps
               where project_id = p_project_id
        union select 'enhanced-views', unnest(array[image_path, before_path, after_path])
                from enhanced_views where project_id = p_project_id
        union select '3d-models', model_path from gaussian_splat_models
               where project_id = p_project_id
        union select '3d-models', unnest(array[thumbnail_path, turntable_path])
                from model_previews where project_id = p_project_id
        union select '3d-models', image_path from contact_sheets where project_id = p_project_id
        union select '3d-models', file_path from export_history where project_id = p_project_id
        union select b.bucket, f.value
                from job_stages s
                join jobs j on j.id = s.job_id and j.project_id = p_project_id
               cross join lateral unnest(case s.stage
                    when 'views' then array['multiview-images']
                    when 'depth' then array['depth-maps']
                    else array['project-uploads', 'processed-images', 'multiview-images',
                               'depth-maps', 'enhanced-views', '3d-models'] end) as b (bucket)
               cross join lateral jsonb_each_text(
                    case when jsonb_typeof(s.detail -> 'files') = 'object'
                        then s.detail -> 'files' else '{}' end) f
    )
    select (select jsonb_object_agg(g.bucket, g.paths)
              from (select bucket, jsonb_agg(path) as paths from named
                     where path <> '' group by bucket) g)
      from projects p
     where p.id = p_project_id and p.status <> 'uploading' and not is_marked_v1(p.id)
       and not exists (select 1 from jobs a where a.project_id = p.id
                          and a.state in ('queued', 'running'))
$$;

create or replace function public.mark_swept_v1(p_job_id text) returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    update jobs set swept_at = clock_timestamp() where id = p_job_id and finished_at is not null;
    return found;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- messages about ended jobs

-- {job, url, attempt} of one that is due, or null.
create or replace function public.claim_webhook_v1(p_lease_s double precision) returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_hook webhooks;
    v_job jobs;
begin
    perform check_lease_v1(p_lease_s);
    select * into v_hook from webhooks
     where state = 'pending' and next_at <= clock_timestamp()
     order by next_at for update skip locked limit 1;
    if not found then
        return null;
    end if;
    update webhooks
       set attempts = attempts + 1, next_at = clock_timestamp() + make_interval(secs => p_lease_s)
     where job_id = v_hook.job_id
    returning * into v_hook;
    select * into v_job from jobs where id = v_hook.job_id;
    return jsonb_build_object(
        'job', job_document_v1(v_job), 'url', v_hook.url, 'attempt', v_hook.attempts);
end
$$;

-- pending -> delivered | pending | given_up. Whether there was a message.
create or replace function public.finish_webhook_v1(
    p_job_id text, p_error text default null, p_retry_in_s double precision default null)
returns boolean
language plpgsql set search_path = public, pg_temp as $$
begin
    update webhooks
       set state = case
               when p_error is null then 'delivered'
               when p_retry_in_s is null then 'given_up'
               else 'pending' end,
           next_at = case
               when p_error is null or p_retry_in_s is null then next_at
               else ago_v1(-p_retry_in_s) end,
           last_error = p_error
     where job_id = p_job_id and state = 'pending';
    return found;
end
$$;
