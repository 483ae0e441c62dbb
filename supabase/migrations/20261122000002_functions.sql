-- Every atomic step of Glimpse3D, as one function each; both stores call these and nothing else.
--
-- A function takes named scalars or JSON and returns JSON, so that asyncpg and PostgREST call it
-- alike. `_v1` is part of the name: a changed meaning is a new function, and replicas of two
-- releases can share a database. Server time decides leases; no client clock is ever compared.
--
-- Errors (serve_app/stores/postgres.py maps them to pipeline/errors.py):
--   GL400 invalid argument      GL404 not found           GL409 conflict
--   GL410 stale attempt         GL422 idempotency key used with another request
--   GL423 project busy (detail: id of the job)            GL425 not generated yet
--   GL503 too many queued jobs
--
-- Lock order: job before project, in all functions but submit_job_v1, whose job nobody else sees.

-- Newest migration; every later migration file redefines this function.
create or replace function public.schema_version_v1() returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select '20261122000002'
$$;
comment on function public.schema_version_v1() is 'Timestamp of the newest migration.';

-- ---------------------------------------------------------------------------------------------
-- documents: rows as the ports name them

create or replace function public.project_document_v1(p_project public.projects) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select to_jsonb(p_project)
$$;

create or replace function public.job_document_v1(p_job public.jobs) returns jsonb
language sql stable set search_path = public, pg_temp as $$
    select jsonb_build_object(
        'id', p_job.id,
        'project_id', p_job.project_id,
        'kind', p_job.kind,
        'state', p_job.state,
        'options', p_job.options,
        'stage', p_job.stage,
        'progress', p_job.progress,
        'attempt', p_job.attempt,
        'max_attempts', p_job.max_attempts,
        'fence', p_job.fence,
        'cancel_requested', p_job.cancel_requested,
        'timings', (
            select coalesce(jsonb_object_agg(s.stage, s.seconds), '{}')
              from job_stages s where s.job_id = p_job.id),
        'error', p_job.error,
        'result', p_job.result,
        'queue_position', case when p_job.state = 'queued' then (
            select count(*) from jobs q
             where q.state = 'queued' and q.queue_number <= p_job.queue_number) end,
        'ordinal', (
            select count(*) from jobs o
             where o.project_id = p_job.project_id and o.kind = p_job.kind
               and o.queue_number <= p_job.queue_number),
        'created_at', p_job.created_at,
        'started_at', p_job.started_at,
        'finished_at', p_job.finished_at)
$$;

-- Status word of a project whose job is in a stage; a stage nobody knows keeps the kind's word.
create or replace function public.stage_status_v1(p_kind text, p_stage text) returns text
language sql immutable parallel safe set search_path = public, pg_temp as $$
    select case
        when p_kind = 'export' then 'exporting'
        when p_kind = 'refine' and p_stage = 'enhance' then 'enhancing'
        when p_kind = 'refine' then 'refining'
        when p_stage = 'depth' then 'depth_estimating'
        when p_stage = 'splats' then 'reconstructing'
        else 'multiview_generating'
    end
$$;

-- ---------------------------------------------------------------------------------------------
-- parts of the steps below; the caller holds the lock on the job

create or replace function public.add_job_event_v1(p_job_id text, p_kind text, p_data jsonb)
returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_seq bigint;
begin
    update jobs set last_event = last_event + 1 where id = p_job_id returning last_event into v_seq;
    insert into job_events (job_id, seq, kind, data) values (p_job_id, v_seq, p_kind, p_data);
    -- Wakes who listens, after the commit; the payload is the id and nothing more.
    perform pg_notify('glimpse3d_jobs', p_job_id);
end
$$;

create or replace function public.add_job_state_event_v1(p_job public.jobs) returns void
language plpgsql set search_path = public, pg_temp as $$
begin
    perform add_job_event_v1(p_job.id, 'state', jsonb_strip_nulls(jsonb_build_object(
        'state', p_job.state,
        'stage', p_job.stage,
        'progress', p_job.progress,
        'attempt', p_job.attempt,
        'error', p_job.error)));
end
$$;

create or replace function public.show_job_on_project_v1(p_job public.jobs) returns void
language plpgsql set search_path = public, pg_temp as $$
declare
    v_status text := case p_job.state
        when 'queued' then 'ready'
        when 'running' then stage_status_v1(p_job.kind, p_job.stage)
        when 'succeeded' then 'completed'
        else p_job.state end;
    v_step text := case
        when p_job.state = 'queued' then 'queued'
        when p_job.state = 'succeeded' then 'completed'
        when p_job.stage = '' then 'starting'
        else p_job.stage end;
    v_error text := case when p_job.state = 'failed' then p_job.error ->> 'detail' end;
begin
    update projects
       set status = v_status,
           current_step = v_step,
           progress_percentage = 100 * p_job.progress,
           error = v_error
     where id = p_job.project_id
       and (status, current_step, progress_percentage, error)
           is distinct from (v_status, v_step, 100 * p_job.progress, v_error);
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
           progress = case when p_state = 'succeeded' then 1 else progress end,
           result = case when p_state = 'succeeded' then coalesce(p_result, '{}') end,
           error = p_error,
           worker = null,
           lease_expires_at = null,
           finished_at = clock_timestamp()
     where id = p_job_id
    returning * into v_job;
    perform add_job_state_event_v1(v_job);
    perform show_job_on_project_v1(v_job);
    return v_job;
end
$$;

-- The job, locked until the end of the transaction, if the attempt may still write.
create or replace function public.lock_attempt_v1(p_job_id text, p_fence bigint)
returns public.jobs
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id for update;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    if v_job.state <> 'running' or v_job.fence <> p_fence then
        raise exception using errcode = 'GL410', message = format(
            'The attempt with fence %s does not hold job %s: it is %s, its fence is %s.',
            p_fence, p_job_id, v_job.state, v_job.fence);
    end if;
    return v_job;
end
$$;

create or replace function public.check_lease_v1(p_lease_s double precision) returns void
language plpgsql immutable set search_path = public, pg_temp as $$
begin
    if p_lease_s is null or not (p_lease_s > 0 and p_lease_s <= 86400) then
        raise exception using errcode = 'GL400',
            message = format('lease_s must be above 0 and at most 86400, not %s.', p_lease_s);
    end if;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- projects

create or replace function public.create_project_v1(
    p_project_id text, p_original_path text, p_processed_path text, p_background_engine text)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    insert into projects (id, original_path, processed_path, background_engine)
    values (p_project_id, p_original_path, p_processed_path, p_background_engine)
    on conflict (id) do nothing
    returning * into v_project;
    if not found then
        raise exception using errcode = 'GL409',
            message = format('There is a project %s already.', p_project_id);
    end if;
    return project_document_v1(v_project);
end
$$;

create or replace function public.get_project_v1(p_project_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_project projects;
begin
    select * into v_project from projects where id = p_project_id;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return project_document_v1(v_project);
end
$$;

-- A project and all its rows in one snapshot and one round trip: what /status reads.
-- Views and depths: of the generate job under way, else of the one that made the newest generated
-- model, else of the newest, so that a failed second run does not hide what is in use.
create or replace function public.project_detail_v1(p_project_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_hidden constant text[] := array['id', 'project_id', 'job_id', 'stage', 'created_at'];
    v_detail jsonb;
begin
    select jsonb_build_object(
        'project', project_document_v1(p),
        'views', (
            select coalesce(jsonb_agg(to_jsonb(v) - v_hidden order by v.view_index), '[]')
              from multiview_generation v where v.job_id = generated.id),
        'depths', (
            select coalesce(jsonb_agg(to_jsonb(d) - v_hidden order by d.view_index), '[]')
              from depth_maps d where d.job_id = generated.id),
        'models', (
            select coalesce(jsonb_agg(to_jsonb(m) - v_hidden order by m.version), '[]')
              from gaussian_splat_models m where m.project_id = p.id),
        'iterations', (
            select coalesce(jsonb_agg(
                       (to_jsonb(i) || to_jsonb(r)) - v_hidden order by i.iteration_number), '[]')
              from enhancement_iterations i
              join refinement_metrics r using (job_id, iteration_number)
             where i.job_id = refined.id),
        'exports', (
            select coalesce(jsonb_agg(to_jsonb(e) - v_hidden order by e.id), '[]')
              from export_history e where e.project_id = p.id),
        'job', (
            select job_document_v1(j) from jobs j where j.project_id = p.id
             order by j.state in ('queued', 'running') desc, j.queue_number desc limit 1))
      into v_detail
      from projects p
      left join lateral (
            select j.id from jobs j
             where j.project_id = p.id and j.kind = 'generate'
             order by j.state in ('queued', 'running') desc,
                      (select max(m.version) from gaussian_splat_models m where m.job_id = j.id)
                          desc nulls last,
                      j.queue_number desc
             limit 1) generated on true
      left join lateral (
            select j.id from jobs j
             where j.project_id = p.id and j.kind = 'refine'
             order by j.queue_number desc
             limit 1) refined on true
     where p.id = p_project_id;
    if v_detail is null then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
    end if;
    return v_detail;
end
$$;

-- ---------------------------------------------------------------------------------------------
-- jobs, from the outside

-- -> queued
create or replace function public.submit_job_v1(
    p_project_id text, p_kind text, p_options jsonb, p_fingerprint text,
    p_idempotency_key text default null, p_max_attempts integer default 3,
    p_max_queued integer default null)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
    v_busy text;
begin
    -- Two submissions to one project come one after the other from here.
    perform 1 from projects where id = p_project_id for no key update;
    if not found then
        raise exception using errcode = 'GL404',
            message = format('There is no project %s.', p_project_id);
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
            project_id, kind, options, fingerprint, idempotency_key, max_attempts)
        values (
            p_project_id, p_kind, p_options, p_fingerprint, p_idempotency_key, p_max_attempts)
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

create or replace function public.get_job_v1(p_job_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return job_document_v1(v_job);
end
$$;

create or replace function public.job_events_v1(
    p_job_id text, p_after bigint default 0, p_limit integer default 1000)
returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
begin
    perform 1 from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return (
        select coalesce(jsonb_agg(to_jsonb(e) order by e.seq), '[]')
          from (select * from job_events
                 where job_id = p_job_id and seq > p_after
                 order by seq limit p_limit) e);
end
$$;

-- queued, or running with an expired lease -> cancelled; running -> running, asked to stop
create or replace function public.cancel_job_v1(p_job_id text) returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    select * into v_job from jobs where id = p_job_id for update;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    if v_job.state = 'queued'
            or (v_job.state = 'running' and v_job.lease_expires_at <= clock_timestamp()) then
        update jobs set cancel_requested = true where id = p_job_id;
        v_job := end_job_v1(p_job_id, 'cancelled', null, null);
    elsif v_job.state = 'running' and not v_job.cancel_requested then
        update jobs set cancel_requested = true where id = p_job_id returning * into v_job;
        perform add_job_event_v1(p_job_id, 'cancel', jsonb_build_object('stage', v_job.stage));
    end if;
    return job_document_v1(v_job);
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
    v_job jobs;
begin
    perform check_lease_v1(p_lease_s);
    loop
        select * into v_job from jobs
         where state in ('queued', 'running')
           and (state = 'queued' or lease_expires_at <= clock_timestamp())
         order by queue_number
         for update skip locked
         limit 1;
        exit when not found;

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
create or replace function public.heartbeat_v1(
    p_job_id text, p_fence bigint, p_lease_s double precision, p_stage text,
    p_progress double precision)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_stage_before text;
    v_job jobs;
begin
    perform check_lease_v1(p_lease_s);
    select * into v_job from jobs
     where id = p_job_id and fence = p_fence and state = 'running' for update;
    if not found then
        return jsonb_build_object('owned', false, 'cancel_requested', coalesce(
            (select cancel_requested from jobs where id = p_job_id), false));
    end if;
    v_stage_before := v_job.stage;
    update jobs
       set lease_expires_at = clock_timestamp() + make_interval(secs => p_lease_s),
           stage = coalesce(nullif(p_stage, ''), stage),
           progress = least(greatest(progress, coalesce(nullif(p_progress, 'NaN'), 0)), 1)
     where id = p_job_id
    returning * into v_job;
    if v_job.stage <> v_stage_before then
        perform add_job_event_v1(p_job_id, 'stage', jsonb_build_object(
            'stage', v_job.stage, 'progress', v_job.progress, 'attempt', v_job.attempt));
    end if;
    perform show_job_on_project_v1(v_job);
    return jsonb_build_object('owned', true, 'cancel_requested', v_job.cancel_requested);
end
$$;

-- running -> running. p_commit: {stage, seconds, detail, views, depths, models, iterations,
-- enhanced, exports}. Replaces what the stage had committed; its place in the order stays.
create or replace function public.commit_stage_v1(p_job_id text, p_fence bigint, p_commit jsonb)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
    v_stage constant text := p_commit ->> 'stage';
    v_ordinal integer;
begin
    delete from job_stages where job_id = p_job_id and stage = v_stage
    returning ordinal into v_ordinal;
    if v_ordinal is null then
        select coalesce(max(ordinal), 0) + 1 into v_ordinal from job_stages
         where job_id = p_job_id;
    end if;
    insert into job_stages (job_id, stage, ordinal, seconds, fence, detail)
    values (p_job_id, v_stage, v_ordinal, (p_commit ->> 'seconds')::double precision, p_fence,
            coalesce(p_commit -> 'detail', '{}'));

    insert into multiview_generation (
        project_id, job_id, stage, view_index, image_path, azimuth_deg, elevation_deg, engine)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'views', '[]')) as r (
        view_index integer, image_path text, azimuth_deg double precision,
        elevation_deg double precision, engine text);

    insert into depth_maps (
        project_id, job_id, stage, view_index, depth_path, heat_map_path, engine, min_depth,
        max_depth)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'depths', '[]')) as r (
        view_index integer, depth_path text, heat_map_path text, engine text,
        min_depth double precision, max_depth double precision);

    insert into gaussian_splat_models (
        project_id, job_id, stage, version, model_path, engine, origin, splat_count,
        file_size_bytes, psnr, ssim, lpips, overall_quality)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'models', '[]')) as r (
        version integer, model_path text, engine text, origin text, splat_count bigint,
        file_size_bytes bigint, psnr double precision, ssim double precision,
        lpips double precision, overall_quality double precision);

    insert into enhancement_iterations (
        project_id, job_id, stage, iteration_number, accepted, model_version, enhance_engine,
        strength, learning_rate, seconds, note)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, accepted boolean, model_version integer, enhance_engine text,
        strength double precision, learning_rate double precision, seconds double precision,
        note text);

    insert into refinement_metrics (
        project_id, job_id, stage, iteration_number, overall_quality, psnr, ssim, lpips)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'iterations', '[]')) as r (
        iteration_number integer, overall_quality double precision, psnr double precision,
        ssim double precision, lpips double precision);

    insert into enhanced_views (
        project_id, job_id, stage, iteration_number, view_index, image_path, engine)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'enhanced', '[]')) as r (
        iteration_number integer, view_index integer, image_path text, engine text);

    insert into export_history (
        project_id, job_id, stage, model_version, format, optimize, file_path, file_size_bytes,
        seconds)
    select v_job.project_id, p_job_id, v_stage, r.*
      from jsonb_to_recordset(coalesce(p_commit -> 'exports', '[]')) as r (
        model_version integer, format text, optimize boolean, file_path text,
        file_size_bytes bigint, seconds double precision);

    perform add_job_event_v1(p_job_id, 'commit', jsonb_build_object(
        'stage', v_stage, 'seconds', (p_commit ->> 'seconds')::double precision,
        'progress', v_job.progress, 'attempt', v_job.attempt));
    return job_document_v1(v_job);
end
$$;

-- What the job's attempts have committed, in the order of the stages' first commits.
create or replace function public.committed_v1(p_job_id text) returns jsonb
language plpgsql stable set search_path = public, pg_temp as $$
declare
    v_hidden constant text[] := array['id', 'project_id', 'job_id', 'stage', 'created_at'];
begin
    perform 1 from jobs where id = p_job_id;
    if not found then
        raise exception using errcode = 'GL404', message = format('There is no job %s.', p_job_id);
    end if;
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'stage', s.stage,
            'seconds', s.seconds,
            'detail', s.detail,
            'views', (
                select coalesce(jsonb_agg(to_jsonb(v) - v_hidden order by v.id), '[]')
                  from multiview_generation v where (v.job_id, v.stage) = (s.job_id, s.stage)),
            'depths', (
                select coalesce(jsonb_agg(to_jsonb(d) - v_hidden order by d.id), '[]')
                  from depth_maps d where (d.job_id, d.stage) = (s.job_id, s.stage)),
            'models', (
                select coalesce(jsonb_agg(to_jsonb(m) - v_hidden order by m.id), '[]')
                  from gaussian_splat_models m where (m.job_id, m.stage) = (s.job_id, s.stage)),
            'iterations', (
                select coalesce(jsonb_agg(
                           (to_jsonb(i) || to_jsonb(r)) - v_hidden order by i.id), '[]')
                  from enhancement_iterations i
                  join refinement_metrics r using (job_id, iteration_number)
                 where (i.job_id, i.stage) = (s.job_id, s.stage)),
            'enhanced', (
                select coalesce(jsonb_agg(to_jsonb(n) - v_hidden order by n.id), '[]')
                  from enhanced_views n where (n.job_id, n.stage) = (s.job_id, s.stage)),
            'exports', (
                select coalesce(jsonb_agg(to_jsonb(e) - v_hidden order by e.id), '[]')
                  from export_history e where (e.job_id, e.stage) = (s.job_id, s.stage))
            ) order by s.ordinal), '[]')
          from job_stages s where s.job_id = p_job_id);
end
$$;

-- running -> succeeded | failed | cancelled. An attempt that did not hear the answer may ask again.
create or replace function public.finish_job_v1(
    p_job_id text, p_fence bigint, p_state text, p_result jsonb default null,
    p_error jsonb default null)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs;
begin
    if p_state not in ('succeeded', 'failed', 'cancelled') then
        raise exception using errcode = 'GL400',
            message = format('A job cannot finish as %s.', p_state);
    end if;
    if p_state = 'failed' and p_error is null then
        raise exception using errcode = 'GL400', message = 'A failed job needs an error.';
    end if;
    select * into v_job from jobs
     where id = p_job_id and fence = p_fence and state = p_state for update;
    if found then
        return job_document_v1(v_job);
    end if;
    v_job := lock_attempt_v1(p_job_id, p_fence);
    return job_document_v1(end_job_v1(p_job_id, p_state, p_result, p_error));
end
$$;

-- running -> queued; -> cancelled when that was asked for. Without an error the attempt does not
-- count (its driver was drained); with one it does, and the last one fails the job with it.
create or replace function public.release_job_v1(
    p_job_id text, p_fence bigint, p_error jsonb default null)
returns jsonb
language plpgsql set search_path = public, pg_temp as $$
declare
    v_job jobs := lock_attempt_v1(p_job_id, p_fence);
begin
    if v_job.cancel_requested then
        return job_document_v1(end_job_v1(p_job_id, 'cancelled', null, null));
    end if;
    if p_error is not null and v_job.attempt >= v_job.max_attempts then
        return job_document_v1(end_job_v1(p_job_id, 'failed', null, p_error));
    end if;
    update jobs
       set state = 'queued', worker = null, lease_expires_at = null,
           attempt = case when p_error is null then attempt - 1 else attempt end
     where id = p_job_id
    returning * into v_job;
    perform add_job_state_event_v1(v_job);
    perform show_job_on_project_v1(v_job);
    return job_document_v1(v_job);
end
$$;
